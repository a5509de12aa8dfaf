"""Warm-up: the learning rate rises linearly over the first steps of a phase."""

from __future__ import annotations

import math
from typing import Optional

from keras_bnguard.model.snapshot import ModelSnapshot


class Warmup:
    """The warm-up of the phase under way, if it has one.

    Args:
        snapshot: the model in training.

    Attributes:
        start: the optimizer's iteration count when the phase began.
        target: the learning rate to arrive at, None when no warm-up is under way.
    """

    def __init__(self, snapshot: ModelSnapshot) -> None:
        self._snapshot = snapshot
        self.start: int = 0
        self.target: Optional[float] = None
        self._steps_before_epoch: Optional[int] = None
        self._assigned: Optional[float] = None

    def begin(self, start: int, target: Optional[float]) -> None:
        """Begin, or go on with, a warm-up; without a target, none is under way.

        Args:
            start: the optimizer's iteration count when the phase began.
            target: the learning rate to arrive at.
        """
        self.start, self.target, self._assigned = start, target, None

    def epoch_begins(self, learning_rate: Optional[float]) -> None:
        """Take the number of steps from the optimizer again: batches count from 0.

        Args:
            learning_rate: as it is now. Where a callback has changed it since the last step, as
                ReduceLROnPlateau does, the target changes by the same factor.
        """
        self._steps_before_epoch = None
        if self.target is None or not self._assigned or not learning_rate:
            return
        if not math.isclose(learning_rate, self._assigned, rel_tol=1e-6):
            self.target *= learning_rate / self._assigned

    def before_batch(self, batch: int, steps: int) -> Optional[float]:
        """Set the learning rate of the next step.

        Args:
            batch: index of the batch in its epoch.
            steps: over how many steps the learning rate rises.

        Returns:
            What was set, None where no warm-up is under way.
        """
        if self.target is None:
            return None
        backend, model = self._snapshot.backend, self._snapshot.model
        if self._steps_before_epoch is None:
            # Asked once an epoch: reading the optimizer waits for the device.
            self._steps_before_epoch = backend.optimizer.iterations(model) - self.start - batch
        step = self._steps_before_epoch + batch + 1
        self._assigned = self.target * min(1.0, step / steps)
        backend.optimizer.set_learning_rate(model, self._assigned)
        if step >= steps:
            self.target = None
        return self._assigned
