"""One guarded run over one model: look at train begin, look again, say what was found."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from keras_bnguard.block_flags import add_blocks
from keras_bnguard.callbacks.averaged import AverageWatch
from keras_bnguard.callbacks.chapter import Chapter
from keras_bnguard.engines import history, run_watch
from keras_bnguard.engines.base import Engine
from keras_bnguard.engines.first_step import FirstStep
from keras_bnguard.engines.fit_frame import fit_arguments
from keras_bnguard.engines.live_reading import LiveReader
from keras_bnguard.engines.spy import CallSpy
from keras_bnguard.findings import Muting, find, merge_outcomes
from keras_bnguard.flag_changes import excused_flags, flag_changes
from keras_bnguard.holding import all_held, is_guarded
from keras_bnguard.intent import modes
from keras_bnguard.inventory import Survey, take_inventory
from keras_bnguard.observation import StatWatch
from keras_bnguard.optimizing import RateSetters, rate_setters, take_optimizer
from keras_bnguard.records import (
    Averaging,
    CallSite,
    DataFacts,
    DriftLook,
    Facts,
    Finding,
    FlagChange,
    Lag,
    OptimizerFacts,
    Outcome,
    Report,
    RunFacts,
)
from keras_bnguard.rules import ALL_RULES


def _codes(*asked: str) -> Tuple[str, ...]:
    looks = (r for r in ALL_RULES if "R" in r.needs or r.looks_again)
    return tuple(rule.code for rule in looks if rule.asked in asked)


# The rules that look at what happened since train begin; those of them that are asked where no
# BN moved in a new way; those that are asked once, at the end.
_WHILE_TRAINING = _codes("always", "moved")
_WHEN_QUIET = _codes("always")
_AT_END = _codes("end")

_MANY_LOOKS = 2000


class GuardRun:
    """What a guard knows of one model while it trains.

    Args:
        engine: the adapter of the model. model: the model. muting: what to run and mute.
        hyper: epochs, steps and batch size of `fit`, where known.
        in_fit: Keras's own loop runs it, so that `compile()` inside is a fault.
        emit: called with each new finding.
        protect: runs a function of ours that user code set off, so that a fault in it never
            reaches them, and hands out what it found.
        defer: flags that change are judged at the next hook, which also repairs them.
        left: called when `fit` turns out to have been left without a word. Defaults to `stop`.
    """

    def __init__(
        self,
        engine: Engine,
        model: Any,
        muting: Muting,
        emit: Callable[[Finding], Any],
        protect: Callable[[Callable[[], Any]], Any],
        hyper: Optional[Mapping[str, Any]] = None,
        in_fit: bool = True,
        defer: bool = False,
        left: Optional[Callable[[], Any]] = None,
    ) -> None:
        self.engine = engine
        self._model = weakref.ref(model)
        self._muting = muting
        self._emit = emit
        self._protect = protect
        self._hyper = hyper
        self._in_fit = in_fit
        self._defer = defer
        self._left = left or self.stop
        self._fit = run_watch.fit_under_way(model) if in_fit else None
        self._fired: Set[str] = set()
        self._outcomes: Tuple[Outcome, ...] = ()
        self._sources: Dict[int, str] = {}
        self._recompiled: Optional[str] = None
        self._lags: Optional[Tuple[Lag, ...]] = None
        self._corrupts = False
        self._in_danger = False
        self._grown = False
        self._surveyed = True
        self._step_seen = False
        self._step_flips: Tuple[FlagChange, ...] = ()
        self._step_optimizer: Optional[OptimizerFacts] = None
        self._averages = AverageWatch()
        self._averaging: Optional[Averaging] = None
        self.over = False
        self.findings: List[Finding] = []
        self.drift: List[DriftLook] = []
        self.notes: List[str] = []
        self.repairs: List[str] = []
        self.phase: Optional[str] = None
        self.data: Optional[DataFacts] = None
        self.steps = 0
        self._glances = 0
        self.moment = "train begin"
        self.epoch: Optional[int] = None
        self._rate_setters: Optional[RateSetters] = None
        self._known_optimizer: Optional[OptimizerFacts] = None
        arguments = fit_arguments(model) if in_fit else None
        if arguments is not None:
            self._rate_setters = rate_setters(engine, arguments.callbacks)
        self._survey_model(model)
        self._started = engine.iterations(model)

    # ------------------------------------------------------------------ begin
    def _survey_model(self, model: Any) -> None:
        self._surveyed = True
        engine = self.engine
        engine.sync(model)
        self.compiled = engine.compiled_flags(model)
        # A loop of one's own may set flags before each step, as a GAN's does: until a step
        # tells, the model is what it was compiled to be.
        flags = engine.pending_flags(model) if self._in_fit else dict(self.compiled or {})
        self.survey: Survey = self._taken(model, flags)
        self.wanted: Dict[int, bool] = {
            id(layer): flags.get(id(layer), bool(layer.trainable))
            if self._in_fit
            else bool(layer.trainable)
            for layer in [model, *(layer for _, layer in self.survey.layers)]
        }
        excused = excused_flags(self.survey, self.wanted, self.compiled) if self._in_fit else {}
        if excused:
            self.survey = self._taken(model, {**flags, **excused})
        self._sources.update(history.flag_sources(engine, self.wanted))
        self.stats = StatWatch(self.survey)
        self._reader: Optional[LiveReader] = None
        self.spy = CallSpy(engine, model, self.survey.handles, self.survey.paths)
        self.first_step = FirstStep(engine, model, self.spy, self._before_step)
        self.chapter = Chapter(self.survey, self.phase) if self._in_fit else None

    def _taken(self, model: Any, flags: Mapping[int, bool]) -> Survey:
        survey = take_inventory(
            model,
            flags=flags,
            compiled=self.compiled,
            held=all_held(model),
            guarded=is_guarded(model),
            look_for_others=self._muting.names("BNG106"),
        )
        built = survey.inventory.built
        return add_blocks(survey) if built and self._muting.names("BNG107") else survey

    def _survey_again(self, model: Any, flags: Mapping[int, bool]) -> None:
        """The same run, with other flags or more layers than it began with."""
        self._surveyed = True
        self.survey = self._taken(model, flags)
        for _, layer in self.survey.layers:
            self.wanted.setdefault(id(layer), bool(layer.trainable))
        self.stats.follow(self.survey)

    def start(self) -> None:
        """Begin to listen: the first step, assignments of `trainable`, calls of `compile`."""
        run_watch.start(self.engine, self)
        model = self._model()
        own_loop = not self._in_fit and bool(self.compiled) and model is not None
        if model is not None and own_loop and not self.engine.has_train_function(model):
            model.make_train_function()
        self.first_step.arm()

    def stop(self) -> None:
        """Take every listener off again; safe to call twice."""
        run_watch.stop(self.engine, self)
        self.first_step.disarm()

    def watches(self, model: Any) -> bool:
        """Whether this run is of that very model."""
        return model is self._model()

    # -------------------------------------------------------------- listening
    def before_flip(self, layer: Any) -> None:
        """Somebody assigns `trainable`: bring JAX's values home before its lists change."""
        model = self._model()
        if model is None or id(layer) not in self.wanted:
            return
        self._protect(lambda: self._bring_home(model))

    def _bring_home(self, model: Any) -> None:
        mid_epoch = getattr(self.engine, "mid_epoch", None)
        self._in_danger = bool(mid_epoch and mid_epoch(model))
        self.new_epoch()
        if self._in_danger:
            self.engine.sync(model)

    def after_flip(self, layers: Dict[int, bool], source: Optional[str]) -> None:
        """Somebody assigned `trainable`: note it, and look before the next step runs."""
        mine = {key: flag for key, flag in layers.items() if key in self.wanted}
        if not mine or self._model() is None:
            return
        self._protect(lambda: self._note_flips(mine, source))
        if self._in_danger and not self._defer:
            self._in_danger = False
            self._protect(lambda: self.check_flags("inside an epoch", corrupts=True))

    def _note_flips(self, mine: Dict[int, bool], source: Optional[str]) -> None:
        if self._is_over():
            self._in_danger = False
            return
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
        self.compiled = self.engine.compiled_flags(model)
        self._fired.discard("BNG101")
        if self._in_fit and not self.engine.has_train_function(model):
            self._recompiled = source or "inside fit"
            self._judge("inside fit", only=("BNG607",))

    def before_training(self, model: Any) -> None:
        """A step is about to be made or used: not with what a `fit` that was left has put on."""
        if model is self._model():
            self._protect(self._is_over)

    def failed(self, error: Exception) -> None:
        """What happened could not be read: stand down, as for any fault of ours."""
        self._protect(lambda: _raise(error))

    def _is_over(self) -> bool:
        """Whether `fit` was left without a word, as by an exception; then nothing is watched."""
        over = self._in_fit and not run_watch.inside_fit(self._fit)
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
            self._protect(lambda: self.check_flags("before a step"))

    def _take_flags_of_step(self) -> None:
        """In a loop of one's own, what counts is how the flags are when a step is taken."""
        self._step_flips = self._changes("before a step")
        self._step_optimizer = self.engine.optimizer_facts(self._model())
        if self._step_seen:
            return
        self._step_seen = True
        if self.engine.flags != "compile" and self.wanted != self.compiled:
            self._survey_again(self._model(), dict(self.wanted))

    # ------------------------------------------------------------------ looks
    def begin(self) -> Sequence[Finding]:
        """Judge the model as it is at train begin."""
        return self._judge("train begin")

    def flags_pending(self) -> bool:
        """Whether a flag differs now from the one the compiled step was built with."""
        compiled = self.compiled or {}
        return any(self.wanted.get(key, flag) != flag for key, flag in compiled.items())

    def leak_seen(self) -> bool:
        """Whether the observed step showed an explicit `training=` that leaks."""
        return "BNG203" not in self._fired and any(
            site.leaked_from for sites in self.spy.sites.values() for site in sites
        )

    def check_leak(self, moment: str) -> Sequence[Finding]:
        """Judge leaks alone, right after the step that showed one."""
        return self._judge(moment, only=("BNG203",))

    def check_flags(self, moment: str, corrupts: bool = False) -> Sequence[Finding]:
        """Judge the flags alone, with what is known of them now."""
        if self._in_fit and not corrupts and not self.flags_pending():
            return ()
        self._corrupts = corrupts
        try:
            return self._judge(moment, only=("BNG101",))
        finally:
            self._corrupts = False

    def stirred(self) -> bool:
        """Between two batches: whether there is reason for a look.

        There is one at each of the first 20 times, at every 32nd after, which measures drift,
        and whenever a BN moved or stood still that did not before, or lost its health.
        """
        self._glances += 1
        if self._glances <= 20 or self._glances % 32 == 0 or self.spy.fault is not None:
            return True
        values = self._live_values()
        return values is None or not self.stats.glance(values)

    def _live_values(self) -> Optional[np.ndarray]:
        model = self._model()
        if model is None or not self.survey.inventory.built:
            return None
        if self._reader is None:
            self._reader = self.stats.live_reader(model)
        return self._reader.read()

    def new_epoch(self) -> None:
        """What was known of where the engine keeps its values no longer holds."""
        if self._reader is not None:
            self._reader.renew()

    def _note_in_chapter(self, chapter: Chapter, model: Any, loss: Any) -> None:
        rate = self.engine.rate_now(model)
        chapter.look(model, self.survey.inventory, loss, rate)
        if self._known_optimizer is not None:
            self._known_optimizer = replace(self._known_optimizer, rate=rate)

    def look(
        self,
        moment: str,
        epoch: Optional[int] = None,
        live: bool = False,
        loss: Any = None,
    ) -> DriftLook:
        """Read the moving statistics and judge what happened since train begin.

        Args:
            moment: words for the report. epoch: from 0, None where unknown.
            live: between two batches of `fit`, where an engine may keep the values elsewhere.
            loss: what Keras logged for the epoch.
        """
        if self.spy.fault is not None:
            raise self.spy.fault
        model = self._model()
        self.epoch = epoch
        # In a loop of one's own that looks often, a read that is compiled once is worth it too.
        often = not self._in_fit and len(self.drift) >= 3
        values = self._live_values() if live or often else None
        if model is not None:
            if values is None:
                self.engine.sync(model)
            done = self.engine.iterations(model) - self._started
            self.steps = max(done, self.steps, 1 if self.spy.outermost else 0)
            self._survey_what_was_built(model)
            if not self._in_fit and not self._step_seen and self.wanted != self.compiled:
                # No step of Keras's own: the flags count as they are.
                self._survey_again(model, dict(self.wanted))
            if self.chapter is not None and not live:
                self._note_in_chapter(self.chapter, model, loss)
        self.stats.look(values)
        if model is not None and moment == f"epoch {epoch} end":
            self._averages.look(self.engine, model)
        self._note_late_defaults()
        drift = self.stats.drift(moment, epoch, self.steps)
        self._keep(drift)
        # What does not change while training runs was judged when it was surveyed.
        again = self._surveyed or bool(self._step_flips) or self.flags_pending()
        quiet = self.stats.quiet(self.spy.sites, self.steps)
        if model is not None and (again or not quiet):
            self.engine.sync(model)
        if again:
            self._judge(moment)
        else:
            self._judge(moment, only=_WHEN_QUIET if quiet else _WHILE_TRAINING)
        return drift

    def _keep(self, drift: DriftLook) -> None:
        """The history; of looks between batches every second is dropped before they are many."""
        self.drift.append(drift)
        if len(self.drift) > _MANY_LOOKS:
            between = [look for look in self.drift if look.moment.startswith("batch")]
            dropped = {id(look) for look in between[::2]}
            self.drift = [look for look in self.drift if id(look) not in dropped]

    def finish(self, callbacks: Sequence[Any] = (), data: Optional[DataFacts] = None) -> None:
        """Training has ended: judge what only shows now, with what was measured on data."""
        model = self._model()
        if model is None:
            return
        self.data = data
        if not self._in_fit:
            self._judge("loop end", only=("BNG506",))
            return
        self.over = True
        self._averaging = self._averages.at_end(model, callbacks)
        judged = [look.steps for look in self.drift]
        if judged and self.steps > 0:
            since = judged[-1] - (judged[-2] if len(judged) > 1 else 0)
            calls = {path: tuple(sites) for path, sites in self.spy.sites.items()}
            self._lags = self.stats.lags(judged[-1], since, calls)
        self._judge("train end", only=_AT_END)

    def _survey_what_was_built(self, model: Any) -> None:
        """Once: layers that a model made, and BN that it built, at its first step."""
        known = self.survey.inventory
        if self._grown or (known.built and all(norm.built for norm in known.norms)):
            return
        self._grown = True
        self._survey_again(model, dict(self.wanted))

    def _note_late_defaults(self) -> None:
        """After a late survey: what counts is how a BN began, not what a step made of it."""
        norms = self.survey.inventory.norms
        if self._grown:
            self.survey.replace_inventory(
                norms=tuple(
                    replace(norm, at_default=self.stats.started_at_default(norm.path))
                    for norm in norms
                )
            )

    def _judge(self, moment: str, only: Optional[Tuple[str, ...]] = None) -> Sequence[Finding]:
        self.moment = moment
        facts = self.facts(
            numbers=only is None or only is _WHILE_TRAINING or only is _AT_END,
            optimizer=only is not _WHILE_TRAINING and only is not _WHEN_QUIET,
        )
        if only is None:
            self._surveyed = False
        rules = ALL_RULES if only is None else tuple(r for r in ALL_RULES if r.code in only)
        found, outcomes = find(facts, self._muting, rules, already=self._fired)
        self._outcomes = merge_outcomes(self._outcomes, outcomes)
        for finding in found:
            self._fired.add(finding.code)
            self.findings.append(finding)
        for finding in found:
            self._emit(finding)
        return found

    # ------------------------------------------------------------------ facts
    def facts(self, numbers: bool = True, optimizer: bool = True) -> Facts:
        """Everything the rules may look at now; without `numbers` nothing is read, without
        `optimizer` its variables are not compared with those that train."""
        model = self._model()
        calls: Dict[str, Tuple[CallSite, ...]] = {k: tuple(v) for k, v in self.spy.sites.items()}
        run = RunFacts(
            moment=self.moment,
            epoch=self.epoch,
            steps=self.steps,
            flips=self._flips(),
            movements=self.stats.movements(calls, self.steps) if numbers else (),
            calls=calls,
            called=bool(calls),
            recompiled=self._recompiled,
            optimizer_started=self._started,
            ended=self.over,
            averaging=self._averaging,
            lags=self._lags,
            **self._chapter_facts(),
        )
        if optimizer:
            self._known_optimizer = self._optimizer(model)
        return Facts(self.survey.inventory, self._known_optimizer, run, self.data, self._hyper)

    def _chapter_facts(self) -> Dict[str, Any]:
        chapter = self.chapter
        if chapter is None:
            return {}
        return {
            "phase": self.phase,
            "phase_steps": chapter.steps,
            "losses": tuple(chapter.losses),
            "loss_function": chapter.loss_function,
            "before": chapter.before,
        }

    def _optimizer(self, model: Any) -> Optional[OptimizerFacts]:
        """The optimizer beside the variables that train; in a loop of one's own, in its steps."""
        if model is None:
            return None
        if not self._in_fit and self.flags_pending():
            return self._step_optimizer
        return take_optimizer(self.survey, self._rate_setters, self._muting.names("BNG602"))

    def _flips(self) -> Tuple[FlagChange, ...]:
        if not self._in_fit:
            return self._step_flips
        if not self._corrupts and not self.flags_pending():
            return ()
        return self._changes("before fit" if self.moment == "train begin" else self.moment)

    def _changes(self, where: str) -> Tuple[FlagChange, ...]:
        if self._model() is None:
            return ()
        return flag_changes(
            self.survey,
            self.wanted,
            self.compiled,
            where=where,
            sources=self._sources,
            compiled_at=history.compiled_at(self.engine, self._model()),
            corrupts=self._corrupts,
        )

    def repaired(self, done: Mapping[str, str], held: Tuple[str, ...]) -> None:
        """Note what was repaired; BN held since are surveyed as such from now on."""
        self.repairs += [f"{code}: {how}" for code, how in sorted(done.items())]
        self.findings = [
            replace(f, repaired=done[f.code]) if f.code in done else f for f in self.findings
        ]
        model = self._model()
        self.compiled = self.engine.compiled_flags(model)
        self._surveyed = True
        stopped = set(held)
        norms = tuple(
            replace(norm, held=norm.held or norm.path in stopped)
            for norm in self.survey.inventory.norms
        )
        self.survey.replace_inventory(norms=norms, guarded=True)

    # ----------------------------------------------------------------- report
    def report(self) -> Report:
        """What is known so far."""
        inventory = self.survey.inventory
        return Report(
            model=inventory.model,
            stack=inventory.stack,
            findings=tuple(self.findings),
            outcomes=self._outcomes,
            modes=modes(inventory),
            weights=inventory.weights,
            drift=tuple(self.drift),
            repairs=tuple(self.repairs),
            notes=tuple(self.notes),
            steps=self.steps,
        )


def _raise(error: Exception) -> None:
    raise error
