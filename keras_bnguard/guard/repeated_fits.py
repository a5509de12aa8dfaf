"""Which `fit` of many runs the model on its data to measure what reaches the BN.

To run the model costs 20 to 100 ms, many times a `fit` of a few steps. A program of many short
fits shows the same model the same kind of data again and again: its first, second, fourth, eighth
... `fit` is checked, and every one in which the model or the data differ from those before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Tuple

import numpy as np

from keras_bnguard.data import tree
from keras_bnguard.data.sample import DataSample
from keras_bnguard.records import Inventory

MAX_KINDS = 8
"""So many kinds of data and states of one model are recognised; the oldest is dropped."""
MAX_CHANNELS = 256
"""More features of the first input are compared together, not one by one."""
SHIFT = 0.25
"""Means that are further apart, in standard deviations, are those of other data."""
RATIO = 1.5
"""Standard deviations whose ratio is larger are those of other data."""


class RepeatedFits:
    """Counts the fits of one model by what it was and what it was trained on."""

    def __init__(self) -> None:
        self._seen: List[_Kind] = []

    def is_due(self, inventory: Inventory, sampled: DataSample) -> bool:
        """Count one `fit`, and return whether its data are to be checked.

        Args:
            inventory: the model as it is before the first step.
            sampled: batches of the data; at least one.
        """
        new = _Kind(_state(inventory), _layout(sampled), *_moments(sampled))
        for kind in self._seen:
            if kind.covers(new):
                kind.fits += 1
                return kind.fits & (kind.fits - 1) == 0
        self._seen = [*self._seen, new][-MAX_KINDS:]
        return True


@dataclass
class _Kind:
    """Fits that are alike.

    Attributes:
        state: flags and settings of every BN.
        layout: type and shape of the batches.
        mean: of the first input, for each feature.
        std: likewise.
        rows: values that each of them was computed from.
        fits: how many there were.
    """

    state: Tuple[Any, ...]
    layout: Tuple[Any, ...]
    mean: Any
    std: Any
    rows: int
    fits: int = 1

    def covers(self, other: _Kind) -> bool:
        if (self.state, self.layout) != (other.state, other.layout):
            return False
        scale = np.maximum(self.std, 1e-6 * np.abs(self.mean))
        chance = 4.0 / np.sqrt(max(1, min(self.rows, other.rows)))
        near = np.abs(other.mean - self.mean) <= (SHIFT + chance) * scale
        alike = (other.std <= RATIO * scale) & (
            self.std <= RATIO * np.maximum(other.std, scale / 3)
        )
        return bool(np.all(near & alike))


def _state(inventory: Inventory) -> Tuple[Any, ...]:
    return tuple(
        (
            norm.path,
            norm.frozen,
            norm.compiled_trainable,
            norm.forced_inference,
            norm.provenance,
            norm.at_default,
            norm.momentum,
            norm.epsilon,
        )
        for norm in inventory.norms
    )


def _layout(sampled: DataSample) -> Tuple[Any, ...]:
    batch = sampled.batches[0]
    leaves = [np.asarray(leaf) for leaf in tree.leaves(batch.x)]
    return (sampled.kind, sampled.ordered, *((str(each.dtype), each.shape) for each in leaves))


def _moments(sampled: DataSample) -> Tuple[Any, Any, int]:
    """Mean and standard deviation of the first input over all batches, and of how many values.

    Zeros for text.
    """
    values = [np.asarray(tree.first_leaf(batch.x)) for batch in sampled.batches]
    if values[0].dtype.kind not in "biuf" or not values[0].ndim:
        return np.zeros(1), np.zeros(1), 1
    features = values[0].shape[-1]
    by_feature = values[0].ndim > 1 and features <= MAX_CHANNELS
    rows = np.concatenate([each.reshape(-1, features if by_feature else 1) for each in values])
    return rows.mean(axis=0, dtype=float), rows.std(axis=0, dtype=float), len(rows)
