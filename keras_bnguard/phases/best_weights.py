"""Weights that are kept during training and put back: of the best epoch, and of the end."""

from __future__ import annotations

from typing import Any, List, Sequence

import numpy as np

from keras_bnguard.model.snapshot import ModelSnapshot


class BestWeights:
    """The weights of the best epoch of a phase, with `restore_best`.

    Args:
        snapshot: the model in training.

    Attributes:
        arrays: as `copy_weights` gives them; empty where none are kept.
    """

    def __init__(self, snapshot: ModelSnapshot) -> None:
        self._snapshot = snapshot
        self.arrays: List[np.ndarray] = []

    def keep(self) -> None:
        """Keep the weights as they are now."""
        self.arrays = copy_weights(self._snapshot)

    def take(self, arrays: Sequence[np.ndarray]) -> None:
        """Keep these: those of a saved state, or none."""
        self.arrays = list(arrays)

    def restore(self) -> None:
        """Put the kept weights into the model; no-op without any."""
        if self.arrays:
            self._snapshot.backend.values.sync(self._snapshot.model)
            _put_weights(self._snapshot, self.arrays)


class FinalState:
    """Weights and optimizer of a schedule that had ended before its `fit` began.

    Keras takes one step before it checks `stop_training`; `restore` undoes that step.

    Args:
        snapshot: the model, before that step.
    """

    def __init__(self, snapshot: ModelSnapshot) -> None:
        self._snapshot = snapshot
        self._weights = copy_weights(snapshot)
        self._optimizer: List[Any] = snapshot.backend.optimizer.state(snapshot.model)

    def restore(self) -> None:
        """Put weights and optimizer state back."""
        _put_weights(self._snapshot, self._weights)
        self._snapshot.backend.optimizer.load_state(self._snapshot.model, self._optimizer)


def copy_weights(snapshot: ModelSnapshot) -> List[np.ndarray]:
    """Copy what training changes of a model: its weights, and buffers of torch modules in it."""
    values, model = snapshot.backend.values, snapshot.model
    values.sync(model)
    weights = [value.copy() for value in model.get_weights()]
    return weights + [values.to_numpy(variable) for variable in values.outside_weights(model)]


def _put_weights(snapshot: ModelSnapshot, arrays: Sequence[np.ndarray]) -> None:
    values, model = snapshot.backend.values, snapshot.model
    count = len(model.weights)
    model.set_weights(list(arrays[:count]))
    for variable, array in zip(values.outside_weights(model), arrays[count:]):
        values.assign(variable, array)
