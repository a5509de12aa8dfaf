"""One monitored run over one model: audit it, check it while it trains, report what was found."""

from __future__ import annotations

from typing import Any, Callable, ContextManager, FrozenSet, List, Mapping, Optional, Sequence

from keras_bnguard.guard.data_sampling import DataSampling
from keras_bnguard.guard.finding_queue import FindingQueue
from keras_bnguard.guard.live_reading import LiveReading
from keras_bnguard.guard.repairs import Repairs
from keras_bnguard.guard.run_evaluator import RunEvaluator
from keras_bnguard.guard.run_kinds import RunKind
from keras_bnguard.guard.tracking.drift_history import DriftHistory
from keras_bnguard.guard.tracking.trackers import Trackers
from keras_bnguard.guard.training_listener import TrainingListener
from keras_bnguard.inference.steps import verification_of
from keras_bnguard.model.expected_mode import modes
from keras_bnguard.recalibration.weight_averages import WeightAverageTracker
from keras_bnguard.records import (
    TRAIN_START,
    AssignedWeights,
    DataFacts,
    DriftSnapshot,
    Moment,
    MomentKind,
    Trigger,
)
from keras_bnguard.report.report import Report
from keras_bnguard.rules.evaluate import RuleFilter


class MonitoredRun:
    """Wires what tracks a model, the rules, and what user code does to the model.

    `audit`, then `start`; while it trains `epoch_start` and `check`; then `finish` and `stop`.

    Args:
        model: the model.
        kind: a run of `fit` or of a custom training loop.
        rule_filter: what the user selected and ignored.
        safely: makes a context that keeps internal errors from the user, and hands out findings
            when it is left.
        data: the data for the rules that need some. Defaults to None.
        fix: whether to repair what can be repaired safely. Defaults to False.

    Attributes:
        model: see above.
        listener: what `model_hooks` calls for this run.
    """

    def __init__(
        self,
        model: Any,
        kind: RunKind,
        rule_filter: RuleFilter,
        safely: Callable[[], ContextManager[Any]],
        *,
        data: Optional[DataSampling] = None,
        fix: bool = False,
    ) -> None:
        self.model = model
        self._evaluator = RunEvaluator(model, kind, rule_filter, self._before_step)
        self._data = data
        self._drift = DriftHistory()
        self._averages = WeightAverageTracker()
        self._reading = LiveReading()
        self._repairs = Repairs(model) if fix else None
        self._done: List[str] = []
        self._phases: Sequence[Mapping[str, Any]] = ()
        self.listener = TrainingListener(
            self._evaluator, self._reading, safely, self.stop_if_over, defer=fix
        )

    # ---------------------------------------------------------------- what is known
    @property
    def trackers(self) -> Trackers:
        """What tracks the model in the present phase."""
        return self._evaluator.trackers

    @property
    def findings(self) -> FindingQueue:
        """What was found."""
        return self._evaluator.rules.findings

    def report(self) -> Report:
        """What is known so far."""
        self._note_forced()
        inventory = self.trackers.snapshot.inventory
        return Report(
            model=inventory.model,
            stack=inventory.stack,
            findings=self.findings.all(),
            outcomes=self._evaluator.rules.outcomes,
            modes=modes(inventory),
            weights=inventory.weights,
            drift=self._drift.all(),
            repairs=tuple(self._done),
            steps=self._evaluator.progress.steps,
            phases=tuple(self._phases),
        )

    # ---------------------------------------------------------------- start and end
    def audit(self) -> None:
        """Evaluate every rule on the model as it is before the first step."""
        data = None if self._data is None else self._data.at_start(self.trackers.snapshot)
        self._evaluator.evaluate(Trigger.SNAPSHOT, TRAIN_START, data)

    def start(self) -> None:
        """Repair what was found, and listen to what user code does to the model."""
        self.repair()
        self.listener.start()
        self._evaluator.kind.before_arming(self.trackers)
        self.trackers.step.arm()

    def stop(self) -> None:
        """Take off every hook, and every repair that ends with the run; safe to call twice."""
        self.listener.stop()
        self.trackers.step.disarm()
        self._evaluator.kind.stop()
        self.trackers.inference.close()
        if self._repairs is not None:
            self._repairs.undo()

    def stop_if_over(self) -> bool:
        """Stop where `fit` was left without a hook being called, as by an exception."""
        over = self._evaluator.kind.is_over()
        if over:
            self.stop()
        return over

    def finish(self, callbacks: Sequence[Any] = ()) -> None:
        """Training has ended: evaluate the rules that need it to be over.

        Args:
            callbacks: the callbacks of `fit`. Defaults to ().
        """
        data = None if self._data is None else self._data.at_end(self.trackers.snapshot)
        self._check_repairs()
        scheduled = (each.history for each in callbacks if hasattr(each, "phases"))
        self._phases = next((rows for rows in scheduled if isinstance(rows, list)), ())
        moment, trigger = self._evaluator.kind.end
        if trigger is Trigger.TRAINING_END:
            averaging = self._averages.at_end(self.model, callbacks)
            self._evaluator.note(ended=True, averaging=averaging)
            last = self._drift.last_steps()
            if last is not None and self._evaluator.progress.steps > 0:
                optimizer = self._evaluator.facts.optimizer.facts
                passes = 1 if optimizer is None else optimizer.accumulation
                biases = self.trackers.statistics.ema_biases(
                    passes * last[0],
                    passes * last[1],
                    self.trackers.step.updates(self.trackers.snapshot.inventory),
                    self.trackers.provenance.decay,
                )
                self._evaluator.note(ema_biases=biases)
        self._evaluator.evaluate(trigger, moment, data)

    # ---------------------------------------------------------------- checks
    def epoch_start(self, epoch: int) -> None:
        """An epoch begins: check and repair the flags."""
        self._reading.renew()  # The backend may keep the values elsewhere from now on.
        self._evaluator.check_flags(Moment(MomentKind.EPOCH_START, epoch))
        self.repair()

    def batch_start(self, batch: int) -> None:
        """A batch begins: check and repair what other callbacks changed before its step."""
        moment = Moment(MomentKind.BATCH_START, batch)
        if self.trackers.trainable.pending:
            self._evaluator.check_flags(moment)
            self.repair()
        if self._evaluator.rules.can_fire(Trigger.LEAK) and self.trackers.step.leaked:
            self._evaluator.evaluate(Trigger.LEAK, moment)
            self.repair()

    def needs_check(self) -> bool:
        """Whether a check between two batches can show anything new."""
        return self._reading.needs_check(self.trackers)

    def check(
        self,
        moment: Moment,
        *,
        loss: Any = None,
        steps: int = 0,
        trained_elsewhere: FrozenSet[str] = frozenset(),
    ) -> DriftSnapshot:
        """Read the moving statistics and evaluate the rules on what has happened.

        Args:
            moment: when. At `MomentKind.BATCH_END` the backend may keep the values elsewhere.
            loss: what Keras logged for the epoch. Defaults to None.
            steps: a lower bound of the steps since the start. Defaults to 0.
            trained_elsewhere: paths of BN that another model may have updated. Defaults to none.

        Returns:
            The drift since the start.

        Raises:
            Exception: an internal error inside a step that was traced.
        """
        between = moment.kind is MomentKind.BATCH_END
        evaluator, trackers = self._evaluator, self.trackers
        trackers.step.raise_error()
        self._note_forced()
        often = evaluator.kind.reads_compiled(len(self._drift))
        values = self._reading.read(trackers, between or often)
        self._note_progress(moment, steps, trained_elsewhere)
        data = self._note_built(between)
        if trackers.history is not None and not between:
            learning_rate = trackers.history.update(trackers.snapshot, loss)
            evaluator.facts.optimizer.note_learning_rate(learning_rate)
        trackers.statistics.update(values)
        if not between and self._evaluator.progress.steps > 0:
            trackers.note_trained(self._evaluator.progress.steps)
        if moment.kind is MomentKind.EPOCH_END:
            self._averages.measure(trackers.snapshot.backend, self.model)
        trackers.snapshots.note_start(trackers.statistics.start_at_default())
        progress = evaluator.progress
        drift = trackers.statistics.drift(moment, progress.epoch, progress.steps)
        self._drift.add(drift)
        trigger = self._trigger(data)
        if trigger is not Trigger.CHECK:
            trackers.snapshot.backend.values.sync(self.model)
        evaluator.evaluate(trigger, moment, data)
        return drift

    def _note_progress(self, moment: Moment, steps: int, elsewhere: FrozenSet[str]) -> None:
        before = self._evaluator.progress
        epoch = moment.number if moment.kind is MomentKind.EPOCH_END else None
        self._evaluator.note(
            epoch=before.epoch if moment.kind is MomentKind.BATCH_END else epoch,
            steps=max(
                self._evaluator.facts.optimizer.steps(self.model),
                steps,
                before.steps,
                int(self.trackers.step.has_run),
            ),
            trained_elsewhere=elsewhere,
        )

    def _note_built(self, between: bool) -> Optional[DataFacts]:
        """Take the layers that the first step built; measure on data what had to wait for them."""
        trackers, data = self.trackers, None
        trackers.retake_when_built()
        if trackers.snapshots.retaken_built and not between and self._data is not None:
            data = self._data.late(trackers.snapshot)
        self._evaluator.kind.before_check(trackers)
        return data

    def _trigger(self, data: Optional[DataFacts]) -> Trigger:
        """What a check evaluates. What cannot change while training runs is evaluated once."""
        trackers = self.trackers
        steps = self._evaluator.progress.steps
        unchanged = trackers.statistics.is_unchanged(trackers.calls, steps)
        if (
            trackers.snapshots.is_new
            or data is not None
            or self._evaluator.kind.has_new_changes()
            or trackers.trainable.pending
        ):
            return Trigger.SNAPSHOT
        return Trigger.CHECK if unchanged else Trigger.CHANGE

    def begin_inference(self, moment: Moment) -> None:
        """An inference pass begins: see how it calls the BN, once."""
        self.trackers.inference.begin(moment)

    def end_inference(self) -> None:
        """The pass has ended."""
        self._evaluator.end_inference()

    # ---------------------------------------------------------------- repairs
    def repair(self) -> None:
        """Repair what was found and can be repaired safely, where the user asked for that."""
        if self._repairs is None:
            return
        trackers = self.trackers
        unrepaired = self.findings.unrepaired()
        done = self._repairs.make(unrepaired, trackers.snapshot, trackers.trainable.wanted)
        if not done:
            return
        self._done += [f"{code}: {how}" for code, how in sorted(done.items())]
        self.findings.mark_repaired(done)
        compiled = trackers.snapshot.backend.flags.compiled(self.model)
        trackers.trainable.compile(compiled)
        trackers.snapshots.note_repair()

    def _note_forced(self) -> None:
        """Take what is known of forced inference by now."""
        self.trackers.snapshot.note_verification(verification_of(self.model))
        self._note_failed({} if self._repairs is None else self._repairs.failed())

    def _note_failed(self, failed: Mapping[str, str]) -> None:
        """A repair is claimed only while nothing shows that it had no effect."""
        if failed:
            done = [line for line in self._done if line.split(":", 1)[0] not in failed]
            self._done = done + [f"{code}: {how}" for code, how in sorted(failed.items())]
            self.findings.mark_unrepaired(failed)

    def _check_repairs(self) -> None:
        """After the first whole epoch since a repair: whether its effect is seen."""
        if self._repairs is None or not self._done:
            return
        trackers, steps = self.trackers, self._evaluator.progress.steps
        changes = trackers.statistics.changes(trackers.calls, steps)
        self._note_failed(self._repairs.without_effect(self.findings.all(), changes))

    def note_recalibration(self, line: str) -> bool:
        """Keep what a `Recalibrate` of the same `fit` did; return whether the run is over."""
        self._done.append(line)
        return self._evaluator.progress.ended

    def note_assigned(self, assigned: AssignedWeights) -> None:
        """Evaluate the rules on weights that callbacks assigned between steps."""
        self._evaluator.note(assigned=assigned)
        self._evaluator.evaluate(Trigger.ASSIGNMENT, assigned.moment)

    def _before_step(self) -> None:
        self.listener.before_step()
