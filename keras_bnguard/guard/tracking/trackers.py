"""What is tracked of one model during one phase; a `fit` without a scheduler is one phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from keras_bnguard.guard.tracking.inference_tracker import InferenceTracker
from keras_bnguard.guard.tracking.phase_history import PhaseHistory
from keras_bnguard.guard.tracking.provenance_tracker import ProvenanceTracker
from keras_bnguard.guard.tracking.snapshot_keeper import SnapshotKeeper
from keras_bnguard.guard.tracking.statistics_tracker import StatisticsTracker
from keras_bnguard.guard.tracking.step_tracker import StepTracker
from keras_bnguard.guard.tracking.trainable_tracker import TrainableTracker
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import CallSite


@dataclass(frozen=True)
class Trackers:
    """The trackers of one phase.

    Attributes:
        snapshots: keeps the snapshot of the model.
        trainable: the `trainable` flags.
        statistics: the moving statistics.
        provenance: where the moving statistics come from.
        step: the calls of the BN in a step.
        inference: the calls of the BN in validation.
        history: the phases of the model; None outside `fit`.
    """

    snapshots: SnapshotKeeper
    trainable: TrainableTracker
    statistics: StatisticsTracker
    provenance: ProvenanceTracker
    step: StepTracker
    inference: InferenceTracker
    history: Optional[PhaseHistory] = None

    @property
    def snapshot(self) -> ModelSnapshot:
        """The model as it was described last."""
        return self.snapshots.current

    @property
    def calls(self) -> Dict[str, Tuple[CallSite, ...]]:
        """Path of each BN -> its observed calls."""
        return self.step.calls

    @property
    def step_has_failed(self) -> bool:
        """Whether an internal error has ended the tracing of steps."""
        return self.step.has_failed

    def retake(self) -> None:
        """Describe the model again, with the flags as they are wanted now."""
        self.snapshots.retake(dict(self.trainable.wanted), self.trainable.compiled)
        self._follow()

    def retake_when_built(self) -> None:
        """Once: describe the model again when its first step has built layers of it."""
        if self.snapshots.retake_when_built(dict(self.trainable.wanted), self.trainable.compiled):
            self._follow()

    def _follow(self) -> None:
        self.trainable.include(layer for _, layer in self.snapshot.layers)
        self.statistics.follow(self.snapshot)
        self.provenance.describe(self.snapshot)

    def note_trained(self, steps: int) -> None:
        """Note the BN that so many training steps since the start updated."""
        trained = self.statistics.trained(self.calls)
        self.provenance.train(self.snapshot.model, trained, steps)
