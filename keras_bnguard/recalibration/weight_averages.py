"""Averages of the weights in a run: how far they are from the weights, and who recalibrates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional, Sequence

from keras_bnguard.backends.base import Backend
from keras_bnguard.backends.optimizers.averages import averaging, distance, keeper
from keras_bnguard.records import Averaging


class WeightAverageTracker:
    """Tracks the averages of one run; costs nothing where the optimizer keeps none."""

    def __init__(self) -> None:
        self._distance: Optional[float] = None

    def measure(self, backend: Backend, model: Any) -> None:
        """Measure the distance of averages and weights at the end of an epoch.

        A distance of 0 is ignored: where `SwapEMAWeights` ran before, both are the averages.

        Args:
            backend: the backend of the model.
            model: the model, with its values in place.
        """
        if keeper(model) is not None:
            self._distance = distance(backend, model) or self._distance

    def at_end(self, model: Any, callbacks: Sequence[Any]) -> Optional[Averaging]:
        """Describe the averages at the end of training; None where the optimizer keeps none.

        Args:
            model: the model.
            callbacks: all callbacks of this `fit`.
        """
        found = averaging(model, callbacks, self._distance)
        if found is None:
            return None
        return replace(found, recalibrated=_covered(callbacks, found.assigned))


def _covered(callbacks: Sequence[Any], assigned: bool) -> bool:
    """Whether a callback recalibrates for averages; see `Recalibrate.covers_averages`."""
    return any(getattr(each, "covers_averages", _never)(assigned) for each in callbacks)


def _never(assigned: bool) -> bool:
    return False
