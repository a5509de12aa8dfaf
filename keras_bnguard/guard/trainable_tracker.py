"""What user code does while a model trains: assign flags, compile, take a step, leave `fit`."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

from keras_bnguard.backends.patches import fit_scope, model_hooks
from keras_bnguard.guard.fact_collector import RunState
from keras_bnguard.records import (
    Finding,
    FlagTiming,
    Moment,
    MomentKind,
)


class ListeningRun(RunState):
    """Hears of changes when they are made, and judges them before a step is taken with them."""

    def start(self) -> None:
        """Begin to listen: the first step, assignments of `trainable`, calls of `compile`."""
        model_hooks.start(self.backend, self)
        model = self._model()
        own_loop = not self._in_fit and bool(self.compiled) and model is not None
        if model is not None and own_loop and not self.backend.step.has_train_function(model):
            model.make_train_function()
        self.first_step.arm()

    def stop(self) -> None:
        """Take every listener off again; safe to call twice."""
        model_hooks.stop(self.backend, self)
        self.first_step.disarm()

    def watches(self, model: Any) -> bool:
        """Whether this run is of that very model."""
        return model is self._model()

    def before_flip(self, layer: Any) -> None:
        """Somebody assigns `trainable`: bring JAX's values home before its lists change."""
        model = self._model()
        if model is None or id(layer) not in self.wanted:
            return
        self._protect(lambda: self._bring_home(model))

    def _bring_home(self, model: Any) -> None:
        self._in_danger = self.backend.values.outside_model(model)
        self.new_epoch()
        if self._in_danger:
            self.backend.values.sync(model)

    def after_flip(self, layers: Dict[int, bool], source: Optional[str]) -> None:
        """Somebody assigned `trainable`: note it, and look before the next step runs."""
        mine = {key: flag for key, flag in layers.items() if key in self.wanted}
        if not mine or self._model() is None:
            return
        self._protect(lambda: self._note_flips(mine, source))
        if self._in_danger and not self._defer:
            self._in_danger = False
            self._protect(lambda: self.check_flags(Moment(MomentKind.INSIDE_EPOCH), corrupts=True))

    def _note_flips(self, mine: Dict[int, bool], source: Optional[str]) -> None:
        if self._is_over():
            self._in_danger = False
            return
        self._pending = None
        for key, flag in mine.items():
            self.wanted[key] = flag
            if source:
                self._sources[key] = source
        if not self._defer and not self._in_danger and "BNG101" not in self._fired:
            self.first_step.arm()

    def after_compile(self, model: Any, source: Optional[str]) -> None:
        """Somebody called `compile()`: its flags are the compiled ones from now on."""
        if model is self._model():
            self._protect(lambda: self._note_compile(model, source))

    def _note_compile(self, model: Any, source: Optional[str]) -> None:
        if self._is_over():
            return
        self.compiled, self._pending = self.backend.flags.compiled(model), None
        self._fired.discard("BNG101")
        if self._in_fit and not self.backend.step.has_train_function(model):
            self._recompiled = source or "inside fit"
            self._judge(Moment(MomentKind.INSIDE_FIT), only=("BNG607",))

    def before_training(self, model: Any) -> None:
        """A step is about to be made or used: not with what a `fit` that was left has put on."""
        if model is self._model():
            self._protect(self._is_over)

    def failed(self, error: Exception) -> None:
        """What happened could not be read: stand down, as for any fault of ours."""
        self._protect(lambda: _raise(error))

    def _is_over(self) -> bool:
        """Whether `fit` was left without a word, as by an exception; then nothing is watched."""
        over = self._in_fit and not fit_scope.inside_fit(self._fit)
        if over:
            self._left()
        return over

    def after_phase(self, model: Any, phase: str) -> None:
        """A scheduler changed flags and step on purpose: look at the model as it is now."""
        if model is not self._model() or phase == "":
            return
        self._protect(lambda: self._begin_phase(model, phase))

    def _begin_phase(self, model: Any, phase: str) -> None:
        self.phase = phase
        self._fired.clear()
        self.first_step.disarm()
        self._survey_model(model)
        self.first_step.arm()

    def _before_step(self) -> None:
        if not self._in_fit:
            self._protect(self._take_flags_of_step)
        if "BNG101" not in self._fired:
            self._protect(lambda: self.check_flags(Moment(MomentKind.STEP_START)))

    def _take_flags_of_step(self) -> None:
        """In a loop of one's own, what counts is how the flags are when a step is taken."""
        self._step_flips = self._changes(Moment(MomentKind.STEP_START))
        self._step_optimizer = self.backend.optimizer.facts(self._model())
        if self._step_seen:
            return
        self._step_seen = True
        if self.backend.flags.timing is not FlagTiming.COMPILE and self.wanted != self.compiled:
            self._survey_again(self._model(), dict(self.wanted))

    def leak_seen(self) -> bool:
        """Whether the observed step showed an explicit `training=` that leaks."""
        return "BNG203" not in self._fired and any(
            site.leaked_from for sites in self.tracer.sites.values() for site in sites
        )

    def check_leak(self, moment: Moment) -> Sequence[Finding]:
        """Judge leaks alone, right after the step that showed one."""
        return self._judge(moment, only=("BNG203",))

    def check_flags(self, moment: Moment, corrupts: bool = False) -> Sequence[Finding]:
        """Judge the flags alone, with what is known of them now."""
        if self._in_fit and not corrupts and not self.flags_pending():
            return ()
        self._corrupts = corrupts
        try:
            return self._judge(moment, only=("BNG101",))
        finally:
            self._corrupts = False

    def new_epoch(self) -> None:
        """What was known of where the backend keeps its values no longer holds."""
        if self._reader is not None:
            self._reader.renew()


def _raise(error: Exception) -> None:
    raise error
