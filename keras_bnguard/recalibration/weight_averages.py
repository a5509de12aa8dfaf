"""What a guard learns about averages of the weights: their distance, and what became of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional, Sequence

from keras_bnguard.backends.base import Backend
from keras_bnguard.backends.optimizers.averages import averaging, distance, keeper
from keras_bnguard.records import Averaging


class WeightAverageTracker:
    """The averages of one run. Costs nothing where the optimizer keeps none."""

    def __init__(self) -> None:
        self._distance: Optional[float] = None

    def look(self, backend: Backend, model: Any) -> None:
        """At an epoch end, the values being in the model: how far averages and weights are.

        0 is no answer: where `SwapEMAWeights` ran before, both are the averages.
        """
        if keeper(model) is not None:
            self._distance = distance(backend, model) or self._distance

    def at_end(self, model: Any, callbacks: Sequence[Any]) -> Optional[Averaging]:
        """What is known when training has ended; None where no averages are kept."""
        found = averaging(model, callbacks, self._distance)
        if found is None:
            return None
        return replace(found, recalibrated=_covered(callbacks, found.assigned))


def _covered(callbacks: Sequence[Any], assigned: bool) -> bool:
    """Whether a callback gives averages statistics of their own; see `Recalibrate.covers`."""
    return any(getattr(each, "covers_averages", _never)(assigned) for each in callbacks)


def _never(assigned: bool) -> bool:
    return False
