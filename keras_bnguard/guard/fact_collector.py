"""What a guard knows of one model while it trains, as the facts that rules are asked about."""

from __future__ import annotations

import functools
import weakref
from dataclasses import replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple, Type

from keras_bnguard.backends.base import Backend
from keras_bnguard.backends.patches import fit_scope, source_lines
from keras_bnguard.backends.patches.call_tracer import CallTracer
from keras_bnguard.backends.patches.first_step import FirstStep
from keras_bnguard.backends.patches.fit_scope import fit_arguments
from keras_bnguard.backends.values.readers import LiveReader
from keras_bnguard.guard.phase_history import PhaseHistory
from keras_bnguard.guard.statistics_tracker import StatisticsTracker
from keras_bnguard.model.blocks.flags import add_blocks
from keras_bnguard.model.expected_mode import modes
from keras_bnguard.model.forced_inference import mark_forced_inference
from keras_bnguard.model.optimizer import LearningRateSetters, learning_rate_setters, take_optimizer
from keras_bnguard.model.snapshot import ModelSnapshot, take_snapshot
from keras_bnguard.model.trainable_changes import explained_changes, flag_changes
from keras_bnguard.recalibration.weight_averages import WeightAverageTracker
from keras_bnguard.records import (
    BEFORE_FIT,
    TRAIN_START,
    Averaging,
    CallSite,
    DataFacts,
    DriftSnapshot,
    EmaBias,
    Facts,
    Finding,
    Inventory,
    Moment,
    MomentKind,
    OptimizerFacts,
    Outcome,
    RunFacts,
    TrainableChange,
    Trigger,
)
from keras_bnguard.report.report import Report
from keras_bnguard.rules import ALL_RULES
from keras_bnguard.rules.base import Rule
from keras_bnguard.rules.evaluate import RuleFilter, evaluate, merge_outcomes, rules_at


@functools.cache
def _rules(only: Optional[Tuple[str, ...]]) -> Tuple[Type[Rule], ...]:
    return tuple(rule for rule in ALL_RULES if only is None or rule.code in only)


# The rules that look at what happened since train begin; those of them that are asked where no
# BN moved in a new way; those that are asked once, at the end.
WHILE_TRAINING = tuple(rule.code for rule in rules_at(Trigger.CHANGE))
WHEN_QUIET = tuple(rule.code for rule in rules_at(Trigger.CHECK))
AT_END = tuple(rule.code for rule in rules_at(Trigger.TRAIN_END))


class RunState:
    """What is known of one model while it trains, and how rules are asked about it.

    Args:
        backend: the adapter of the model. model: the model. muting: what to run and mute.
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
        backend: Backend,
        model: Any,
        rule_filter: RuleFilter,
        emit: Callable[[Finding], Any],
        protect: Callable[[Callable[[], Any]], Any],
        hyper: Optional[Mapping[str, Any]] = None,
        in_fit: bool = True,
        defer: bool = False,
        left: Optional[Callable[[], Any]] = None,
    ) -> None:
        self.backend = backend
        self._model = weakref.ref(model)
        self._rule_filter = rule_filter
        self._emit = emit
        self._protect = protect
        self._hyper = hyper
        self._in_fit = in_fit
        self._defer = defer
        self._left = left or self.stop
        self._fit = fit_scope.running_fit(model) if in_fit else None
        self._fired: Set[str] = set()
        self._outcomes: Tuple[Outcome, ...] = ()
        self._sources: Dict[int, str] = {}
        self._recompiled: Optional[str] = None
        self._ema_biases: Optional[Tuple[EmaBias, ...]] = None
        self._corrupts = False
        self._in_danger = False
        self._grown = False
        self._surveyed = True
        self._pending: Optional[bool] = None
        self._all_built: Optional[Inventory] = None
        self._step_seen = False
        self._step_flips: Tuple[TrainableChange, ...] = ()
        self._step_optimizer: Optional[OptimizerFacts] = None
        self._averages = WeightAverageTracker()
        self._averaging: Optional[Averaging] = None
        self.over = False
        self.findings: List[Finding] = []
        self.drift: List[DriftSnapshot] = []
        self.notes: List[str] = []
        self.repairs: List[str] = []
        self.phase: Optional[str] = None
        self.data: Optional[DataFacts] = None
        self.late_data: Optional[Callable[[Any], Optional[DataFacts]]] = None
        self.steps = 0
        self._glances = 0
        self.moment = TRAIN_START
        self.epoch: Optional[int] = None
        self._rate_setters: Optional[LearningRateSetters] = None
        self._known_optimizer: Optional[OptimizerFacts] = None
        arguments = fit_arguments(model) if in_fit else None
        if arguments is not None:
            self._rate_setters = learning_rate_setters(backend, arguments.callbacks)
        self._survey_model(model)
        self._started = backend.optimizer.iterations(model)

    def _survey_model(self, model: Any) -> None:
        self._surveyed, self._pending = True, None
        backend = self.backend
        backend.values.sync(model)
        self.compiled = backend.flags.compiled(model)
        # A loop of one's own may set flags before each step, as a GAN's does: until a step
        # tells, the model is what it was compiled to be.
        flags = backend.flags.pending(model) if self._in_fit else dict(self.compiled or {})
        self.snapshot: ModelSnapshot = self._taken(model, flags)
        self.wanted: Dict[int, bool] = {
            id(layer): flags.get(id(layer), bool(layer.trainable))
            if self._in_fit
            else bool(layer.trainable)
            for layer in [model, *(layer for _, layer in self.snapshot.layers)]
        }
        explained = (
            explained_changes(self.snapshot, self.wanted, self.compiled) if self._in_fit else {}
        )
        if explained:
            self.snapshot = self._taken(model, {**flags, **explained})
        self._sources.update(source_lines.flag_sources(backend, self.wanted))
        self.stats = StatisticsTracker(self.snapshot)
        self._reader: Optional[LiveReader] = None
        self.tracer = CallTracer(backend, model, self.snapshot.handles, self.snapshot.paths)
        self.first_step = FirstStep(backend, model, self.tracer, self._before_step)
        self.chapter = PhaseHistory(self.snapshot, self.phase) if self._in_fit else None

    def _taken(self, model: Any, flags: Mapping[int, bool]) -> ModelSnapshot:
        snapshot = take_snapshot(model, flags=flags, compiled=self.compiled)
        mark_forced_inference(snapshot)
        if self._rule_filter.names("BNG106"):
            snapshot.shared_norms()
        built = snapshot.inventory.built
        return add_blocks(snapshot) if built and self._rule_filter.names("BNG107") else snapshot

    def _survey_again(self, model: Any, flags: Mapping[int, bool]) -> None:
        """The same run, with other flags or more layers than it began with."""
        self._surveyed, self._pending = True, None
        self.snapshot = self._taken(model, flags)
        for _, layer in self.snapshot.layers:
            self.wanted.setdefault(id(layer), bool(layer.trainable))
        self.stats.follow(self.snapshot)

    def _survey_what_was_built(self, model: Any) -> None:
        """Once: layers that a model made, and BN that it built, at its first step."""
        known = self.snapshot.inventory
        if self._grown or self._all_built is known:
            return
        if known.built and all(norm.built for norm in known.norms):
            self._all_built = known
            return
        self._grown = True
        self._survey_again(model, dict(self.wanted))

    def _note_late_defaults(self) -> None:
        """After a late survey: what counts is how a BN began, not what a step made of it."""
        if self._grown:
            paths = [norm.path for norm in self.snapshot.inventory.norms]
            self.snapshot.set_initial_defaults(
                {path: self.stats.started_at_default(path) for path in paths}
            )

    def flags_pending(self) -> bool:
        """Whether a flag differs now from the one the compiled step was built with."""
        if self._pending is None:
            compiled = self.compiled or {}
            self._pending = any(self.wanted.get(k, flag) != flag for k, flag in compiled.items())
        return self._pending

    def _judge(self, moment: Moment, only: Optional[Tuple[str, ...]] = None) -> Sequence[Finding]:
        self.moment = moment
        facts = self.facts(
            numbers=only is None or only is WHILE_TRAINING or only is AT_END,
            optimizer=only is not WHILE_TRAINING and only is not WHEN_QUIET,
        )
        if only is None:
            self._surveyed = False
        found, outcomes = evaluate(facts, _rules(only), self._rule_filter, self._fired)
        self._outcomes = merge_outcomes(self._outcomes, outcomes)
        for finding in found:
            self._fired.add(finding.code)
            self.findings.append(finding)
        for finding in found:
            self._emit(finding)
        return found

    def facts(self, numbers: bool = True, optimizer: bool = True) -> Facts:
        """Everything the rules may look at now; without `numbers` nothing is read, without
        `optimizer` its variables are not compared with those that train."""
        model = self._model()
        calls = self._calls()
        run = RunFacts(
            moment=self.moment,
            epoch=self.epoch,
            steps=self.steps,
            trainable_changes=self._trainable_changes(),
            statistics_changes=self.stats.statistics_changes(calls, self.steps) if numbers else (),
            calls=calls,
            called=bool(calls),
            recompiled=self._recompiled,
            optimizer_started=self._started,
            ended=self.over,
            averaging=self._averaging,
            ema_biases=self._ema_biases,
            **self._chapter_facts(),
        )
        if optimizer:
            self._known_optimizer = self._optimizer(model)
        return Facts(self.snapshot.inventory, self._known_optimizer, run, self.data, self._hyper)

    def _calls(self) -> Dict[str, Tuple[CallSite, ...]]:
        """How every BN was called in the observed step, as it is known now."""
        return {path: tuple(sites) for path, sites in self.tracer.sites.items()}

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
        return take_optimizer(self.snapshot, self._rate_setters, self._rule_filter.names("BNG602"))

    def _trainable_changes(self) -> Tuple[TrainableChange, ...]:
        if not self._in_fit:
            return self._step_flips
        if not self._corrupts and not self.flags_pending():
            return ()
        return self._changes(
            BEFORE_FIT if self.moment.kind is MomentKind.TRAIN_START else self.moment
        )

    def _changes(self, where: Moment) -> Tuple[TrainableChange, ...]:
        if self._model() is None:
            return ()
        return flag_changes(
            self.snapshot,
            self.wanted,
            self.compiled,
            where=where,
            sources=self._sources,
            compiled_at=source_lines.compiled_at(self.backend, self._model()),
            corrupts=self._corrupts,
        )

    def repaired(self, done: Mapping[str, str]) -> None:
        """Note what was repaired, and the BN that are forced into inference mode since."""
        self.repairs += [f"{code}: {how}" for code, how in sorted(done.items())]
        self.findings = [
            replace(f, repaired=done[f.code]) if f.code in done else f for f in self.findings
        ]
        model = self._model()
        self.compiled = self.backend.flags.compiled(model)
        self._surveyed, self._pending = True, None
        mark_forced_inference(self.snapshot)

    def report(self) -> Report:
        """What is known so far."""
        inventory = self.snapshot.inventory
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

    def stop(self) -> None:
        """Take every listener off again."""
        raise NotImplementedError

    def _before_step(self) -> None:
        """A step is about to be taken."""
        raise NotImplementedError
