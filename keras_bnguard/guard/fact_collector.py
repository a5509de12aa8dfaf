"""Collects what rules may read about one model: for `audit`, and for a monitored run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Dict, Optional

from keras_bnguard.backends.patches import source_lines
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.guard.run_kinds import RunKind
from keras_bnguard.guard.tracking.inference_tracker import InferenceTracker
from keras_bnguard.guard.tracking.optimizer_tracker import OptimizerTracker
from keras_bnguard.guard.tracking.provenance_tracker import ProvenanceTracker
from keras_bnguard.guard.tracking.snapshot_keeper import SnapshotKeeper
from keras_bnguard.guard.tracking.statistics_tracker import StatisticsTracker
from keras_bnguard.guard.tracking.step_tracker import StepTracker
from keras_bnguard.guard.tracking.trackers import Trackers
from keras_bnguard.guard.tracking.trainable_tracker import TrainableTracker
from keras_bnguard.guard.tracking.unmoved_weights import UnmovedWeights
from keras_bnguard.records import DataFacts, Facts, RunFacts, Trigger
from keras_bnguard.records.ids import LayerId, layer_id
from keras_bnguard.rules.base import ExpensiveFact
from keras_bnguard.rules.evaluate import RuleFilter, wanted_facts

READS_STATISTICS = frozenset({Trigger.SNAPSHOT, Trigger.CHANGE, Trigger.TRAINING_END})
"""Triggers whose rules read `RunFacts.statistics_changes`."""
KEEPS_OPTIMIZER = frozenset({Trigger.CHECK, Trigger.CHANGE, Trigger.ASSIGNMENT})
"""Triggers at which the variables of the optimizer are not compared with those that train."""


class FactCollector:
    """The facts about one model.

    Args:
        model: the model.
        kind: what kind of run it is.
        rule_filter: what the user selected; expensive facts are collected for that alone.
        before_step: called before a step of the model that was armed for. Defaults to None.

    Attributes:
        trackers: those of the present phase.
        optimizer: the tracker of the optimizer.
    """

    def __init__(
        self,
        model: Any,
        kind: RunKind,
        rule_filter: RuleFilter,
        before_step: Optional[Callable[[], None]] = None,
    ) -> None:
        self._backend = backend_for(model)
        self._model = model
        self._kind = kind
        self._wants = wanted_facts(rule_filter)
        self._before_step = before_step
        self._sources: Dict[LayerId, str] = {}
        self._unmoved = UnmovedWeights()
        self.trackers: Trackers = self._track(None)
        self.optimizer = OptimizerTracker(
            self._backend, model, kind.callbacks, ExpensiveFact.WEIGHT_DECAY in self._wants
        )

    def begin_phase(self, phase: str) -> None:
        """Track the model as it is now."""
        self._sources = self.trackers.trainable.sources
        self.trackers = self._track(phase)

    def _track(self, phase: Optional[str]) -> Trackers:
        backend, model, kind = self._backend, self._model, self._kind
        backend.values.sync(model)
        compiled = backend.flags.compiled(model)
        flags = kind.flags(backend, model, compiled)
        snapshots = SnapshotKeeper(model, flags, compiled, self._wants)
        assigned = kind.assigned(flags)
        wanted = {
            layer_id(layer): assigned.get(layer_id(layer), bool(layer.trainable))
            for layer in [model, *(layer for _, layer in snapshots.current.layers)]
        }
        if self._before_step is not None:
            self._sources.update(source_lines.flag_sources(backend, wanted))
        trainable = TrainableTracker(compiled, wanted, self._sources)
        explained = kind.explained(snapshots.current, trainable)
        if explained:
            snapshots.retake({**flags, **explained}, compiled)
        snapshot = snapshots.current
        statistics = StatisticsTracker(snapshot)
        return Trackers(
            snapshots,
            trainable,
            statistics,
            ProvenanceTracker(
                snapshot, statistics.states, kind.trains, late=not kind.calls_observable
            ),
            StepTracker(snapshot, self._before_step or _nothing),
            InferenceTracker(snapshot),
            history=kind.history(snapshot, phase),
        )

    def collect(
        self,
        run: RunFacts,
        trigger: Trigger = Trigger.SNAPSHOT,
        data: Optional[DataFacts] = None,
        corrupts: bool = False,
    ) -> Facts:
        """Everything that the rules of a trigger may read now.

        Args:
            run: moment, epoch, steps, and what else only the run knows.
            trigger: what makes the rules run. Defaults to `Trigger.SNAPSHOT`.
            data: what was measured on data. Defaults to None.
            corrupts: whether a change of `trainable` right now would corrupt values. Defaults
                to False.
        """
        trackers, calls = self.trackers, self.trackers.calls
        if trackers.history is not None:
            run = trackers.history.add_to(run)
        if trigger not in KEEPS_OPTIMIZER:
            self.optimizer.keep(self._kind.optimizer(trackers, self.optimizer))
        reads = trigger in READS_STATISTICS
        run = replace(
            run,
            trainable_changes=self._kind.changes(trackers, run.moment, corrupts),
            statistics_changes=trackers.statistics.changes(calls, run.steps) if reads else (),
            calls=calls,
            called=bool(calls),
            calls_observable=self._kind.calls_observable,
            optimizer_started=self.optimizer.started,
            inference=trackers.inference.seen,
        )
        if reads and any(change.set_for is not None for change in run.trainable_changes):
            self._backend.values.sync(self._model)
        unmoved, steps = self._unmoved.of(trackers.snapshot, run.trainable_changes, run.steps)
        run = replace(run, unmoved=unmoved, unmoved_steps=steps)
        inventory = trackers.snapshot.inventory
        return Facts(inventory, self.optimizer.facts, run, data, self._kind.settings)


def _nothing() -> None:
    """Nothing is to be done before a step."""
