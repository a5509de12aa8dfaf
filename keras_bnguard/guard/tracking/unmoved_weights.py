"""Layers that another model's flags froze, and that no step moves."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional, Tuple

from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import TrainableChange

MAX_VALUES = 2**20
"""A weight with more values is not read."""


class UnmovedWeights:
    """Compares the weights of such layers with those they had when that was seen first."""

    def __init__(self) -> None:
        self._start: Dict[str, Tuple[int, ...]] = {}
        self._started_at: Optional[int] = None

    def of(
        self, snapshot: ModelSnapshot, changes: Iterable[TrainableChange], steps: int
    ) -> Tuple[Tuple[str, ...], int]:
        """(paths of the layers that did not move, steps since they were seen first).

        Args:
            snapshot: the model.
            changes: its flags that differ from those at `compile()`.
            steps: training steps of the model so far.
        """
        paths = {c.path for c in changes if c.set_for is not None and c.compiled and not c.now}
        if not paths:
            return (), 0
        layers = {path: layer for path, layer in snapshot.layers if path in paths}
        try:
            now = {path: _bits(snapshot, layer) for path, layer in layers.items()}
        except Exception:  # JAX has them inside a step.
            return (), 0
        if self._started_at is None:
            self._start, self._started_at = now, steps
        same = [path for path, bits in now.items() if bits and bits == self._start.get(path)]
        return tuple(same), steps - self._started_at


def _bits(snapshot: ModelSnapshot, layer: Any) -> Tuple[int, ...]:
    """Numbers that stand for the bits of a layer's own weights; () where it has none."""
    own: List[Any] = [
        variable
        for variable in snapshot.backend.graph.own_variables(layer)
        if _size(variable.shape) <= MAX_VALUES
    ]
    return tuple(hash(value.tobytes()) for value in snapshot.backend.values.arrays(own))


def _size(shape: Any) -> int:
    size = 1
    for each in shape:
        size *= int(each)
    return size
