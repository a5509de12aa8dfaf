"""What user code does to a model while it trains: assign flags, compile, step, leave `fit`."""

from __future__ import annotations

from typing import Any, Callable, ContextManager, Dict, Optional

from keras_bnguard.backends.patches import model_hooks
from keras_bnguard.guard.live_reading import LiveReading
from keras_bnguard.guard.run_evaluator import RunEvaluator
from keras_bnguard.records import Moment, MomentKind, Trigger
from keras_bnguard.records.ids import LayerId, layer_id


class TrainingListener:
    """Notes what happens to the model of a run (a `model_hooks.Listener`).

    Its methods run inside the user's code, so each of them works inside `safely`.

    Args:
        run: what is known of the run.
        reading: reads the statistics of the model.
        safely: makes a context that keeps internal errors from the user, and hands out findings
            when it is left.
        stop_if_over: stops the run where its `fit` was left; returns whether it did.
        defer: whether changed flags are left to the next hook, which also repairs them.
    """

    def __init__(
        self,
        run: RunEvaluator,
        reading: LiveReading,
        safely: Callable[[], ContextManager[Any]],
        stop_if_over: Callable[[], bool],
        defer: bool,
    ) -> None:
        self._run = run
        self._reading = reading
        self._safely = safely
        self._stop_if_over = stop_if_over
        self._defer = defer
        self._backend = run.trackers.snapshot.backend
        self._model = run.trackers.snapshot.model
        self._outside_model = False

    def start(self) -> None:
        """Be called from now on."""
        model_hooks.start(self._backend, self)

    def stop(self) -> None:
        """Be called no more; safe to call twice."""
        model_hooks.stop(self._backend, self)

    def watches(self, model: Any) -> bool:
        """Whether the run is of that very model."""
        return model is self._model

    def before_trainable_change(self, layer: Any) -> None:
        """`trainable` is about to be assigned: write JAX's values back before."""
        if not self._run.trackers.trainable.own({layer_id(layer): True}):
            return
        with self._safely():
            values = self._backend.values
            self._outside_model = values.outside_model(self._model)
            self._reading.renew()
            if self._outside_model:
                values.sync(self._model)

    def after_trainable_change(self, layers: Dict[LayerId, bool], source: Optional[str]) -> None:
        """A `trainable` was assigned: note it, and check before the next step runs."""
        flags = self._run.trackers.trainable.own(layers)
        if not flags:
            return
        with self._safely():
            self._note_flags(flags, source)

    def _note_flags(self, flags: Dict[LayerId, bool], source: Optional[str]) -> None:
        outside, self._outside_model = self._outside_model, False
        if self._stop_if_over():
            return
        self._run.trackers.trainable.assign(flags, source)
        if self._defer:
            return
        if outside:
            self._run.check_flags(Moment(MomentKind.INSIDE_EPOCH), corrupts=True)
        elif self._run.rules.can_fire(Trigger.TRAINABLE_CHANGE):
            self._run.trackers.step.arm()

    def after_compile(self, model: Any, source: Optional[str]) -> None:
        """`compile()` was called: its flags are the compiled ones from now on."""
        if self.watches(model):
            with self._safely():
                self._note_compile(source)

    def _note_compile(self, source: Optional[str]) -> None:
        if self._stop_if_over():
            return
        self._run.trackers.trainable.compile(self._backend.flags.compiled(self._model))
        self._run.rules.forget(Trigger.TRAINABLE_CHANGE)
        if self._run.kind.has_lost_step(self._backend, self._model):
            self._run.note(recompiled=source or "inside fit")
            self._run.evaluate(Trigger.RECOMPILE, Moment(MomentKind.INSIDE_FIT))

    def before_training(self, model: Any) -> None:
        """A step is about to be built: not with what a `fit` that was left has put on."""
        if self.watches(model):
            with self._safely():
                self._stop_if_over()

    def before_step(self) -> None:
        """A step is about to be taken that was armed for."""
        with self._safely():
            self._run.kind.before_step(self._run.trackers)
            if self._run.rules.can_fire(Trigger.TRAINABLE_CHANGE):
                self._run.check_flags(Moment(MomentKind.STEP_START))

    def after_phase(self, model: Any, phase: str) -> None:
        """A scheduler changed flags and step on purpose: track the model as it is now."""
        if self.watches(model) and phase:
            with self._safely():
                self._begin_phase(phase)

    def _begin_phase(self, phase: str) -> None:
        self._run.rules.begin_phase()
        self._run.trackers.step.disarm()
        self._run.facts.begin_phase(phase)
        self._reading.forget()
        self._run.trackers.step.arm()

    def failed(self, error: Exception) -> None:
        """What happened could not be read: that is an internal error."""
        with self._safely():
            raise error
