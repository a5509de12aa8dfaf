"""`BNGuard`: the callback that audits every BN at train begin and watches them after."""

from __future__ import annotations

import contextlib
import functools
import weakref
from dataclasses import replace
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from keras_bnguard.backends.callback_base import Hooks
from keras_bnguard.backends.patches.fit_scope import callback_list, when_fit_is_left
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.errors import FaultBarrier, SettingError
from keras_bnguard.guard.data_sampling import DataLook
from keras_bnguard.guard.emit import Emitter
from keras_bnguard.guard.repairs import Repairs
from keras_bnguard.guard.run import GuardRun
from keras_bnguard.records import DriftSnapshot, Finding, Moment, MomentKind
from keras_bnguard.report.formats import format_of
from keras_bnguard.report.report import Report
from keras_bnguard.report.tensorboard import DriftWriter, check_tensorboard
from keras_bnguard.report.text import mode_table
from keras_bnguard.rules.evaluate import Ignore, RuleFilter, Select


class BNGuard(Hooks):
    """Keras callback that tells the truth about every BatchNormalization layer.

    At train begin it looks at every BN of the model: what it is meant to do, what this Keras
    on this backend will make it do, and says where the two differ. While training runs it
    compares the moving statistics bit for bit, notices `trainable` flags that change without
    `compile()`, and measures drift. With `fix=False` nothing of the run changes: weights,
    optimizer state, metrics and random state end bit-identical to a run without it.

    Put it first in the list, so that `logs["bn_drift"]` (the largest mean shift of any BN
    since train begin, in standard deviations) reaches `CSVLogger`, `EarlyStopping` and
    `TensorBoard`.

    Args:
        on_finding: "warn" (`BNGuardWarning`), "raise" (`FindingError`), "log" (logger
            "keras_bnguard"), or a function of the `Finding`. Info findings only go to the
            report. Defaults to "warn".
        fix: repair what the rules mark as safe, for the length of `fit`, and list it in the
            report. Defaults to False.
        select: rule codes or prefixes to run, "ALL" for the info rules too. Defaults to all
            rules but info.
        ignore: rule codes or prefixes to mute, or a mapping from one to layer globs:
            ``{"BNG404": ["siamese/*"]}``.
        data: arrays, (x, y), a dataset, a loader, a list of batches, or a function that returns an
            iterator of batches; docs/data-rules.md lists every kind. 16 batches are read for
            the data rules at the start of training; nothing is used up and no random state changes.
            A one-shot iterator is left alone. Defaults to None: the data rules are skipped.
        every: "epoch", or every how many training batches to look. "epoch" costs under 1 % of
            a step. At batches the bits of all statistics are compared each time, when the next
            batch begins; drift is measured at the first 20 of these looks and at every 128th
            after. JAX is asked at every fourth after those 20 and not waited for, so that
            findings come a few batches later.
        report: path of a report to write at train end: .html, .json, .sarif or .txt.
            Defaults to None.
        tensorboard: log directory for drift scalars and the findings as text. Defaults to None.
        verbose: 1 prints the table of every BN at train begin. Defaults to 0.

    Attributes:
        report: the `Report` of the present or last run; None before the first.

    Raises:
        SettingError: an argument has a value that is not listed above.

    Example:
        model.fit(x, y, callbacks=[bng.BNGuard()])
    """

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
    ) -> None:
        super().__init__()
        self._emitter = Emitter(on_finding)
        self._rule_filter = RuleFilter.of(select, ignore)
        self._fix = bool(fix)
        self._every = _every(every)
        if report is not None:
            format_of(report)
        if tensorboard is not None:
            check_tensorboard()
        self._report_path = report
        self._tensorboard = tensorboard
        self._writer: Optional[DriftWriter] = None
        self._verbose = verbose
        self._run: Optional[GuardRun] = None
        self._repairs: Optional[Repairs] = None
        self._data = DataLook(data)
        self._barrier = FaultBarrier(self._stop)
        self._pending: List[Finding] = []
        self._batches = 0
        self._first_batch = True
        if self._every or self._fix:
            self.call_at_batch_begin(self._before_batch)

    # ------------------------------------------------------------------ hooks
    def on_train_begin(self, logs: Optional[Mapping[str, Any]] = None) -> None:
        self._barrier = FaultBarrier(self._stop)
        with self._barrier:
            self._begin(self._model, dict(self.params or {}), in_fit=True)
        self._say()

    def on_epoch_begin(self, epoch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        with self._barrier:
            self._first_batch = True
            if (run := self._alive()) is not None:
                run.new_epoch()
                self._repair(run.check_flags(Moment(MomentKind.EPOCH_START, epoch)))
        self._say()

    def on_epoch_end(self, epoch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        with self._barrier:
            self._batches += 1
            if (run := self._alive()) is not None:
                drift = self._looked(
                    run, Moment(MomentKind.EPOCH_END, epoch), epoch, loss=(logs or {}).get("loss")
                )
                if logs is not None:
                    logs["bn_drift"] = drift.total
                self._repair(run.findings)
        self._say()

    def on_train_end(self, logs: Optional[Mapping[str, Any]] = None) -> None:
        with self._barrier:
            if (run := self._alive()) is not None:
                listed = callback_list(self)
                others = [] if listed is None else listed.callbacks
                run.finish(others, self._data.end(run))
            self._end()
        self._say()

    def note_recalibration(self, line: str) -> None:
        """A `Recalibrate` of the same `fit` says what it did, before or after this guard ended."""
        with self._barrier:
            if (run := self._alive()) is not None:
                run.repairs.append(line)
                if run.over and self._report_path and self.report is not None:
                    self.report.save(self._report_path)

    def _before_batch(self, batch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        with self._barrier:
            if (run := self._alive()) is not None:
                if self._fix:
                    self._repair_before_batch(run, batch)
                if self._every:
                    self._look_at_batch_before(run, batch)
        self._say()

    def _look_at_batch_before(self, run: GuardRun, batch: int) -> None:
        """Look at what the last batch left, every so many batches."""
        if self._first_batch:
            self._first_batch = False  # The last batch of an epoch is seen at its end.
            return
        self._batches += 1
        if self._batches % self._every == 0 and run.needs_check():
            self._looked(run, Moment(MomentKind.BATCH_END, batch - 1), run.epoch, live=True)

    def _repair_before_batch(self, run: GuardRun, batch: int) -> None:
        """What other callbacks changed counts before the next step is taken."""
        if run.flags_pending():
            self._repair(run.check_flags(Moment(MomentKind.BATCH_START, batch)))
        if run.leak_seen():
            self._repair(run.check_leak(Moment(MomentKind.BATCH_START, batch)))

    # ------------------------------------------------------------- own loops
    @contextlib.contextmanager
    def watch(self, model: Any) -> Iterator[BNGuard]:
        """Guard a loop of your own: `train_on_batch`, `GradientTape`, stateless JAX, torch.

        Looks when the block begins and when it ends; call `check()` inside for more, for
        example once per epoch.

        Args:
            model: a Keras model; it may be uncompiled, then rules about flags are skipped.

        Raises:
            UnsupportedModelError: `model` is no Keras model.
        """
        backend_for(model)
        self._model = model
        self._barrier = FaultBarrier(self._stop)
        with self._barrier:
            self._begin(model, {}, in_fit=False)
        self._say()
        run = self._run
        tracer = run.tracer if run is not None else contextlib.nullcontext()
        try:
            with tracer:
                yield self
        except BaseException:
            self._stop()
            raise
        with self._barrier:
            if (run := self._alive()) is not None:
                run.look(Moment(MomentKind.LOOP_END))
                run.finish(data=self._data.end(run))
            self._end()
        self._say()

    def check(self) -> Optional[float]:
        """Check the statistics now, inside `watch`.

        Returns:
            The largest drift of any BN since the block began, the Bhattacharyya distance of
            BNG406; None where an internal error has disabled the guard.
        """
        drift = None
        with self._barrier:
            if (run := self._alive()) is not None:
                drift = run.look(Moment(MomentKind.CHECK)).total
        self._say()
        return drift

    # ----------------------------------------------------------------- report
    @property
    def report(self) -> Optional[Report]:
        """The report of the present or last run; None before the first."""
        if self._run is None:
            return None
        report = self._run.report()
        if not self._barrier.faults:
            return report
        note = f"the guard hit an internal error and disabled itself: {self._barrier.faults[0]}"
        return replace(report, notes=(*report.notes, note))

    @property
    def faults(self) -> Tuple[str, ...]:
        """Internal errors of the present or last run, with their tracebacks; () without any."""
        return tuple(self._barrier.faults)

    # --------------------------------------------------------------- internal
    def _begin(self, model: Any, params: Mapping[str, Any], in_fit: bool) -> None:
        self._stop()
        self._batches = 0
        hyper = self._data.hyper(model, params) if in_fit else params
        self._run = GuardRun(
            backend_for(model),
            model,
            self._rule_filter,
            emit=self._pending.append,
            protect=self._protected,
            hyper=hyper or None,
            in_fit=in_fit,
            defer=self._fix,
            left=self._stop,
        )
        self._repairs = Repairs(self._run, model) if self._fix else None
        self._run.data = self._data.begin(self._run, model)
        found = self._run.begin()
        self._run.data = None  # It tells of the model as it was before the first step.
        self._run.late_data = self._data.late
        if self._verbose:
            print(mode_table(self._run.report()))
        self._repair(found)
        self._run.start()
        if in_fit:
            when_fit_is_left(functools.partial(_leave, weakref.ref(self), weakref.ref(self._run)))

    def _repair(self, found: Sequence[Finding]) -> None:
        """Repair what can be, and hand the findings out as repaired."""
        if self._repairs is None:
            return
        done = self._repairs.make(found)
        self._pending[:] = [
            replace(f, repaired=done[f.code]) if f.code in done else f for f in self._pending
        ]

    def _protected(self, work: Callable[[], Any]) -> None:
        with self._barrier:
            work()
        self._say()

    def _looked(
        self,
        run: GuardRun,
        moment: Moment,
        epoch: Optional[int] = None,
        live: bool = False,
        loss: Any = None,
    ) -> DriftSnapshot:
        """Look, and write the drift where TensorBoard is to see it."""
        drift = run.look(moment, epoch, live, loss)
        if self._tensorboard is not None:
            if self._writer is None:
                self._writer = DriftWriter(self._tensorboard)
            self._writer.write(drift)
        return drift

    def _end(self) -> None:
        self._stop()
        report = self.report
        if report is not None and self._writer is not None:
            self._writer.finish(report)
            self._writer = None
        if report is not None and self._report_path:
            report.save(self._report_path)

    def _stop(self) -> None:
        if self._run is not None:
            self._run.stop()
        if self._repairs is not None:
            self._repairs.undo()
            self._repairs = None

    def _say(self) -> None:
        """Hand out what was found, outside of what protects the user from our own faults."""
        pending, self._pending[:] = list(self._pending), []
        for finding in pending:
            try:
                self._emitter(finding)
            except BaseException:
                # A finding raised, a warning made an error, a function of the user's: `fit` ends.
                self._stop()
                raise

    def _alive(self) -> Optional[GuardRun]:
        """The run, unless an internal error has disabled the guard."""
        return None if self._barrier.disabled else self._run


def _leave(guard_ref: Any, run_ref: Any) -> None:
    """The `fit` of a run is left: stop what is still listening, unless a later run does."""
    guard, run = guard_ref(), run_ref()
    if guard is not None and run is not None and guard._run is run:
        guard._stop()


def _every(every: Union[str, int]) -> int:
    if every == "epoch":
        return 0
    if isinstance(every, int) and not isinstance(every, bool) and every > 0:
        return every
    raise SettingError(
        f"every={every!r}: expected 'epoch' or a positive number of training batches."
    )
