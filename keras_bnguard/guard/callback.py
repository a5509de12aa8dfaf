"""`BNGuard`: the callback that audits every BN at the start of training and monitors them after."""

from __future__ import annotations

import contextlib
import functools
import weakref
from dataclasses import replace
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple, Union

from keras_bnguard.arguments import check_flag, check_verbosity, short_traceback
from keras_bnguard.backends.callback_base import Hooks, ensure_model
from keras_bnguard.backends.patches.fit_scope import callback_list
from keras_bnguard.backends.patches.left_fit import when_fit_is_left
from keras_bnguard.backends.processes.voice import speaks
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.guard.around_callbacks import AroundCallbacks
from keras_bnguard.guard.batch_counter import BatchCounter
from keras_bnguard.guard.data_sampling import DataSampling
from keras_bnguard.guard.emit import Emitter
from keras_bnguard.guard.fit_scope import FitScope
from keras_bnguard.guard.report_sink import ReportSink
from keras_bnguard.guard.run import MonitoredRun
from keras_bnguard.guard.run_kinds import FitRun, LoopRun, RunKind
from keras_bnguard.guard.safe_scope import SafeScope
from keras_bnguard.guard.unwatched import unwatched
from keras_bnguard.records import Finding, Moment, MomentKind
from keras_bnguard.records.shown import preformatted, shown
from keras_bnguard.report.report import Report
from keras_bnguard.report.text import mode_table, verdict
from keras_bnguard.rules.evaluate import Ignore, RuleFilter, Select

DRIFT = "bn_drift"
"""The name of the largest drift in the logs of an epoch."""


def _summary(guard: BNGuard) -> str:
    return "not used yet" if guard.report is None else verdict(guard.report)


def _html(guard: BNGuard) -> str:
    return preformatted(repr(guard)) if guard.report is None else guard.report._repr_html_()


@shown(_summary, _html)
class BNGuard(Hooks):
    """Keras callback that audits and monitors every BatchNormalization (BN) layer.

    At the start of training it reports every BN that should run in another mode than this
    Keras on this backend will run it in. While training runs it compares the moving statistics
    bit for bit, notices `trainable` flags that change without `compile()`, and measures drift.
    With `fix=False` nothing of the run changes: weights, optimizer state, metrics and random
    state end bit-identical to a run without it. An internal error never ends the training: it
    is reported once as an `InternalErrorWarning`, and the guard disables itself.

    Put it first in the list of callbacks, so that `logs["bn_drift"]` reaches `CSVLogger`,
    `EarlyStopping` and `TensorBoard`; `History` has it in any case. It is the largest drift of any
    BN since the start of training: the Bhattacharyya distance that BNG406 judges.

    Args:
        on_finding: "warn" (`BNGuardWarning`), "raise" (`FindingError`), "log" (logger
            "keras_bnguard"), or a function of the `Finding`. Info findings only go to the
            report. Defaults to "warn".
        fix: repair what the rules mark as safe, for the length of `fit`, and list it in the
            report. Defaults to False.
        select: rule codes or prefixes to run, "ALL" for the info rules too. Defaults to all
            rules but info.
        ignore: rule codes or prefixes to ignore, or a mapping from one to layer globs:
            ``{"BNG4": ["siamese/*"]}``.
        data: arrays, (x, y), a dataset, a loader, a list of batches, or a function that returns an
            iterator of batches; docs/data-rules.md lists every kind. 16 batches are read for
            the data rules at the start of training; nothing is used up and no random state changes.
            A one-shot iterator is left alone. Defaults to None: the data rules are skipped.
        every: "epoch" (default), or a check every so many training batches. "epoch" costs under
            1 % of a step. Between batches the bits of all statistics are compared each time,
            when the next batch begins; drift is measured at the first 20 of these checks and at
            every 128th after. On JAX, after the first 20, the device compares the bits at every
            fourth batch and is not waited for, so that a finding may come a few batches later.
        report: path of a report to write at the end of training, as "report.html"; the ending
            chooses the format (docs/reports.md). Defaults to None.
        tensorboard: log directory for drift scalars and the findings as text. Defaults to None.
        verbose: 1 prints the table of every BN at the start of training. Defaults to 0.
        show_drift: show `bn_drift` in Keras's progress bar too. Defaults to False.

    Attributes:
        report: the `Report` of the present or last run; None before the first.
        faults: internal errors of that run, with their tracebacks.

    Raises:
        SettingError: an argument has a value that is not listed above.
        DataError: `data` is nothing that batches can be read from.
        MissingExtraError: a package that `report` or `tensorboard` needs is not installed.

    Example:
        model.fit(x, y, callbacks=[bng.BNGuard()])
    """

    @short_traceback
    def __init__(
        self,
        on_finding: Union[str, Callable[[Finding], Any]] = "warn",
        fix: bool = False,
        select: Select = None,
        ignore: Ignore = None,
        data: Any = None,
        every: Union[str, int] = "epoch",
        report: Optional[str] = None,
        tensorboard: Optional[str] = None,
        verbose: int = 0,
        show_drift: bool = False,
    ) -> None:
        super().__init__()
        self._emitter = Emitter(on_finding)
        self._rule_filter = RuleFilter.of(select, ignore)
        self._fix = check_flag("fix", fix)
        self._counter = BatchCounter(every)
        self._sink = ReportSink(report, tensorboard)
        self._verbose = check_verbosity("verbose", verbose)
        self._hidden = None if check_flag("show_drift", show_drift) else DRIFT
        self._data = DataSampling(data)
        self._run: Optional[MonitoredRun] = None
        self._unwatched: Optional[Report] = None
        self._safely = self._new_scope()
        if self._counter.every or self._fix:
            self.call_at_batch_begin(self._on_batch_begin)

    # ------------------------------------------------------------------ hooks
    def on_train_begin(self, logs: Optional[Mapping[str, Any]] = None) -> None:
        self._safely = self._new_scope()
        with self._safely():
            ensure_model(self)
            scope = FitScope(self._model, self.params or {})
            run = self._begin(self._model, FitRun(scope, self._hidden))
            if run is not None:
                when_fit_is_left(functools.partial(_stop, weakref.ref(run)))
                again = functools.partial(_write_again, run, self._sink)
                AroundCallbacks(run, self._safely, again).start(self)

    def on_epoch_begin(self, epoch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        with self._safely():
            self._counter.epoch_start()
            if (run := self._alive()) is not None:
                run.epoch_start(epoch)

    def on_epoch_end(self, epoch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        with self._safely():
            self._counter.epoch_end()
            if (run := self._alive()) is not None:
                loss = (logs or {}).get("loss")
                drift = run.check(Moment(MomentKind.EPOCH_END, epoch), loss=loss)
                self._sink.write_drift(drift)
                if logs is not None:
                    logs[DRIFT] = drift.total
                run.repair()

    def on_test_begin(self, logs: Optional[Mapping[str, Any]] = None) -> None:
        with self._safely():
            if (run := self._alive()) is not None:
                run.begin_inference(Moment(MomentKind.VALIDATION))

    def on_test_end(self, logs: Optional[Mapping[str, Any]] = None) -> None:
        with self._safely():
            if (run := self._alive()) is not None:
                run.end_inference()

    def on_train_end(self, logs: Optional[Mapping[str, Any]] = None) -> None:
        with self._safely():
            if (run := self._alive()) is not None:
                listed = callback_list(self)
                run.finish([] if listed is None else listed.callbacks)
            _end(self, self._sink)

    def _on_batch_begin(self, batch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        with self._safely():
            if (run := self._alive()) is not None:
                if self._fix:
                    run.batch_start(batch)
                if self._counter.batch_start() and run.needs_check():
                    drift = run.check(Moment(MomentKind.BATCH_END, batch - 1))
                    self._sink.write_drift(drift)

    def note_recalibration(self, line: str) -> None:
        """List what a `Recalibrate` of the same `fit` did; it may run before or after this one."""
        with self._safely():
            if (run := self._alive()) is not None and run.note_recalibration(line):
                self._sink.rewrite(run.report())

    # ------------------------------------------------------- custom training loops
    @contextlib.contextmanager
    def watch(self, model: Any) -> Iterator[BNGuard]:
        """Monitor a custom training loop: `train_on_batch`, `GradientTape`, stateless JAX, torch.

        The model is checked when the block begins and when it ends. Call `check()` inside for
        more checks, for example one an epoch.

        Args:
            model: a Keras model. Where it is not compiled, the rules about compiled flags are
                skipped.

        Raises:
            UnsupportedModelError: `model` is no Keras model.
        """
        backend_for(model)
        self._model = model
        self._safely = self._new_scope()
        run = None
        with self._safely():
            run = self._begin(model, LoopRun())
        try:
            with contextlib.nullcontext() if run is None else run.trackers.step.tracer:
                yield self
        except BaseException:
            self.stop_monitoring()
            raise
        with self._safely():
            if (run := self._alive()) is not None:
                run.check(Moment(MomentKind.LOOP_END))
                run.finish()
            _end(self, self._sink)

    def check(self) -> Optional[float]:
        """Check the statistics now, inside `watch`.

        Returns:
            The largest drift of any BN since the block began, the Bhattacharyya distance of
            BNG406; None where an internal error has disabled the guard.
        """
        drift = None
        with self._safely():
            if (run := self._alive()) is not None:
                drift = run.check(Moment(MomentKind.CHECK)).total
        return drift

    # ----------------------------------------------------------------- results
    @property
    def report(self) -> Optional[Report]:
        """The report of the present or last run; None before the first."""
        if self._run is None:
            return self._unwatched
        report = self._run.report()
        if not self.faults:
            return report
        note = f"the guard hit an internal error and disabled itself: {self.faults[0]}"
        return replace(report, notes=(*report.notes, note))

    @property
    def faults(self) -> Tuple[str, ...]:
        """Internal errors of the present or last run, with their tracebacks; () without any."""
        return tuple(self._safely.barrier.faults)

    def stop_monitoring(self) -> None:
        """Take everything off the model and off Keras; safe to call twice."""
        if self._run is not None:
            self._run.stop()

    # --------------------------------------------------------------- internal
    def _begin(self, model: Any, kind: RunKind) -> Optional[MonitoredRun]:
        """Start to monitor; None where that is not possible, and the report gives the reason."""
        self.stop_monitoring()
        self._run, self._unwatched = None, unwatched(model)
        if self._unwatched is not None:
            return None
        self._counter.train_start()
        run = self._run = MonitoredRun(
            model, kind, self._rule_filter, self._safely, data=self._data, fix=self._fix
        )
        run.audit()
        if self._verbose and speaks(model):
            print(mode_table(run.report()))
        run.start()
        return run

    def _alive(self) -> Optional[MonitoredRun]:
        """The run, unless an internal error has disabled the guard."""
        return None if self._safely.barrier.disabled else self._run

    def _new_scope(self) -> SafeScope:
        def take_new() -> Tuple[Finding, ...]:
            return () if self._run is None else self._run.findings.take_new()

        return SafeScope(take_new, self._emitter, self.stop_monitoring)


def _end(guard: BNGuard, sink: ReportSink) -> None:
    """The training of a guard has ended."""
    guard.stop_monitoring()
    if (report := guard.report) is not None:
        sink.finish(report)


def _stop(run_ref: Callable[[], Optional[MonitoredRun]]) -> None:
    """The `fit` of a run is left: stop what still listens."""
    if (run := run_ref()) is not None:
        run.stop()


def _write_again(run: MonitoredRun, sink: ReportSink) -> None:
    """Something was found after the report was written."""
    sink.rewrite(run.report())
