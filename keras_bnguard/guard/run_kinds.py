"""What differs between a run of `fit`, a custom training loop, and an audit.

In `fit`, the flags count as they are assigned: a change after `compile()` is a fault from then on.
In a custom training loop they count as they are when a step is taken, for the loop may set them
before each step, as that of a GAN does. An audit takes the model as it is.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Tuple

from keras_bnguard.backends.base import Backend
from keras_bnguard.backends.patches.progress_bar import HiddenInBar
from keras_bnguard.guard.fit_scope import FitScope
from keras_bnguard.guard.tracking.optimizer_tracker import OptimizerTracker
from keras_bnguard.guard.tracking.phase_history import PhaseHistory
from keras_bnguard.guard.tracking.trackers import Trackers
from keras_bnguard.guard.tracking.trainable_tracker import TrainableTracker
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.model.trainable_changes import explained_changes, flag_changes
from keras_bnguard.records import (
    BEFORE_FIT,
    FlagTiming,
    Moment,
    MomentKind,
    OptimizerFacts,
    TrainableChange,
    Trigger,
)
from keras_bnguard.records.ids import TrainableFlags

Changes = Tuple[TrainableChange, ...]


class RunKind:
    """What a run decides by its kind; the defaults are those of a run that does nothing special.

    Attributes:
        settings: settings of `fit`, None outside of one.
        callbacks: callbacks of `fit`, None where they are not known.
        calls_observable: whether the calls of the BN in a step can be observed.
        trains: whether training steps may follow.
        end: moment and trigger when training has ended.
    """

    settings: Optional[Mapping[str, Any]] = None
    callbacks: Optional[List[Any]] = None
    calls_observable: bool = True
    trains = True
    end = (Moment(MomentKind.LOOP_END), Trigger.LOOP_END)

    def is_over(self) -> bool:
        """Whether the training has ended without a hook being called."""
        return False

    def flags(
        self, backend: Backend, model: Any, compiled: Optional[TrainableFlags]
    ) -> TrainableFlags:
        """The flags that count at the start, where they are not those of the layers."""
        return {}

    def assigned(self, flags: TrainableFlags) -> TrainableFlags:
        """Those of `flags` that the user assigned."""
        return {}

    def explained(self, snapshot: ModelSnapshot, trainable: TrainableTracker) -> TrainableFlags:
        """The compiled flags that count although others were assigned."""
        return {}

    def history(self, snapshot: ModelSnapshot, phase: Optional[str]) -> Optional[PhaseHistory]:
        """A history for the phase that begins; None where phases are not followed."""
        return None

    def changes(self, trackers: Trackers, moment: Moment, corrupts: bool) -> Changes:
        """The changes of `trainable` that count now."""
        return ()

    def optimizer(
        self, trackers: Trackers, optimizer: OptimizerTracker
    ) -> Optional[OptimizerFacts]:
        """The optimizer beside the variables that train."""
        return optimizer.take(trackers.snapshot)

    def before_arming(self, trackers: Trackers) -> None:
        """Called before the first step is armed."""

    def before_step(self, trackers: Trackers) -> None:
        """Called before a step."""

    def before_check(self, trackers: Trackers) -> None:
        """Called at a check, before the statistics are read."""

    def must_check_flags(self, trackers: Trackers) -> bool:
        """Whether the rules about changed flags can find anything."""
        return True

    def has_new_changes(self) -> bool:
        """Whether a step was taken with changed flags, so that every rule has to be evaluated."""
        return False

    def reads_compiled(self, checks: int) -> bool:
        """Whether so many checks were made that a read that is compiled once pays."""
        return False

    def has_lost_step(self, backend: Backend, model: Any) -> bool:
        """Whether `compile()` has just left the running training without a train function."""
        return False

    def stop(self) -> None:
        """The run is over; safe to call twice."""


class AuditRun(RunKind):
    """No training: the model as it is."""

    trains = False

    def changes(self, trackers: Trackers, moment: Moment, corrupts: bool) -> Changes:
        trainable = trackers.trainable
        return flag_changes(trackers.snapshot, trainable.wanted, trainable.compiled)


class FitRun(RunKind):
    """A run inside `fit`.

    Args:
        scope: that `fit`.
        hidden: a value of the logs that Keras's progress bar does not show. Defaults to None.
    """

    end = (Moment(MomentKind.TRAINING_END), Trigger.TRAINING_END)

    def __init__(self, scope: FitScope, hidden: Optional[str] = None) -> None:
        self._scope = scope
        self._hidden = None if hidden is None else HiddenInBar(hidden)
        self.settings = scope.settings
        self.callbacks = scope.callbacks

    def is_over(self) -> bool:
        return self._scope.is_over()

    def flags(
        self, backend: Backend, model: Any, compiled: Optional[TrainableFlags]
    ) -> TrainableFlags:
        return backend.flags.pending(model)

    def before_arming(self, trackers: Trackers) -> None:
        if self._hidden is not None:
            self._hidden.start(self.callbacks or [])

    def stop(self) -> None:
        if self._hidden is not None:
            self._hidden.stop()

    def assigned(self, flags: TrainableFlags) -> TrainableFlags:
        return flags

    def explained(self, snapshot: ModelSnapshot, trainable: TrainableTracker) -> TrainableFlags:
        return explained_changes(snapshot, trainable.wanted, trainable.compiled)

    def history(self, snapshot: ModelSnapshot, phase: Optional[str]) -> Optional[PhaseHistory]:
        return PhaseHistory(snapshot, phase)

    def changes(self, trackers: Trackers, moment: Moment, corrupts: bool) -> Changes:
        if not corrupts and not trackers.trainable.pending:
            return ()
        where = BEFORE_FIT if moment.kind is MomentKind.TRAIN_START else moment
        return trackers.trainable.changes(trackers.snapshot, where, corrupts)

    def must_check_flags(self, trackers: Trackers) -> bool:
        return trackers.trainable.pending

    def has_lost_step(self, backend: Backend, model: Any) -> bool:
        return not backend.step.has_train_function(model)


class LoopRun(RunKind):
    """A run in a custom training loop.

    Args:
        calls_observable: whether the calls of the BN in a step can be observed. Defaults to
            True.
    """

    def __init__(self, calls_observable: bool = True) -> None:
        self.calls_observable = calls_observable
        self._step_taken = False
        self._changes: Changes = ()
        self._optimizer: Optional[OptimizerFacts] = None

    def flags(
        self, backend: Backend, model: Any, compiled: Optional[TrainableFlags]
    ) -> TrainableFlags:
        # Until a step is taken, the model is what it was compiled to be.
        return dict(compiled or {})

    def changes(self, trackers: Trackers, moment: Moment, corrupts: bool) -> Changes:
        return self._changes

    def optimizer(
        self, trackers: Trackers, optimizer: OptimizerTracker
    ) -> Optional[OptimizerFacts]:
        if trackers.trainable.pending:
            return self._optimizer
        return optimizer.take(trackers.snapshot)

    @property
    def is_frozen_for_another(self) -> bool:
        """Whether flags of another model freeze layers that this one was compiled to train."""
        return any(change.set_for is not None for change in self._changes)

    def before_arming(self, trackers: Trackers) -> None:
        backend, model = trackers.snapshot.backend, trackers.snapshot.model
        if trackers.trainable.compiled and not backend.step.has_train_function(model):
            model.make_train_function()

    def before_step(self, trackers: Trackers) -> None:
        backend, model = trackers.snapshot.backend, trackers.snapshot.model
        self._changes = trackers.trainable.changes(trackers.snapshot, Moment(MomentKind.STEP_START))
        self._optimizer = backend.optimizer.facts(model)
        if self._step_taken:
            return
        self._step_taken = True
        if backend.flags.timing is not FlagTiming.COMPILE and trackers.trainable.differs:
            trackers.retake()

    def before_check(self, trackers: Trackers) -> None:
        # Where no step of Keras's own was taken, the flags count as they are.
        if not self._step_taken and trackers.trainable.differs:
            trackers.retake()

    def has_new_changes(self) -> bool:
        return bool(self._changes)

    def reads_compiled(self, checks: int) -> bool:
        return checks >= 3
