"""One batch: what a training step takes, as NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.values.arrays import to_numpy
from keras_bnguard.data import tree
from keras_bnguard.errors import DataError


@dataclass(frozen=True)
class Batch:
    """What one training step takes.

    Attributes:
        x: inputs as the model takes them: an array, or a dict or list of arrays.
        y: labels in the same form, None where there are none.
        sample_weight: weights of the rows, None where there are none.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None

    @classmethod
    def of(cls, item: Any) -> Batch:
        """A batch from what a container gives: x, `(x, y)` or `(x, y, sample_weight)`."""
        several = isinstance(item, tuple) or (isinstance(item, list) and len(item) > 1)
        if several and 1 <= len(item) <= 3:
            return cls(*(tree.map_leaves(to_numpy, part) for part in item))
        return cls(tree.map_leaves(to_numpy, item))

    @property
    def rows(self) -> int:
        """Number of samples."""
        return int(np.shape(tree.first_leaf(self.x))[0])

    def take(self, rows: Any) -> Batch:
        """A batch of chosen rows.

        Args:
            rows: a slice, or an array of places, in the order wanted.
        """
        return Batch(
            tree.take(self.x, rows), tree.take(self.y, rows), tree.take(self.sample_weight, rows)
        )


def join(batches: Sequence[Batch]) -> Batch:
    """Batches of one structure as a single one, in order."""
    return Batch(
        tree.join([batch.x for batch in batches]),
        tree.join([batch.y for batch in batches]),
        tree.join([batch.sample_weight for batch in batches]),
    )


def fixed_rows(model: Any) -> Optional[int]:
    """The number of rows that every batch of a model must have, None where any will do."""
    for tensor in getattr(model, "inputs", None) or ():
        if len(tensor.shape) and tensor.shape[0] is not None:
            return int(tensor.shape[0])
    return None


def check_shapes(model: Any, batch: Batch) -> None:
    """Refuse data of a shape that the model does not take, before anything is run.

    Args:
        model: a built Keras model.
        batch: a batch of the data.

    Raises:
        DataError: a shape differs; names the shape that was given and the one expected.
    """
    expected: Sequence[Any] = getattr(model, "inputs", None) or []
    given = tree.leaves(batch.x)
    if len(expected) != len(given):
        return
    for tensor, array in zip(expected, given):
        want: Tuple[Any, ...] = tuple(tensor.shape)
        have: Tuple[int, ...] = tuple(np.shape(array))
        if want[1:] == have[1:] and want[0] not in (None, *have[:1]):
            raise DataError(
                f"the model takes batches of exactly {want[0]} rows, the data gives {have[0]}. "
                f"Pass batch_size={want[0]}, and a number of rows that it divides."
            )
        if len(want) != len(have) or any(
            w is not None and w != h for w, h in zip(want[1:], have[1:])
        ):
            raise DataError(
                f"the model takes batches of shape {want}, the data gives {have}. Pass data as the "
                "model is trained on it, with the batch axis first."
            )
