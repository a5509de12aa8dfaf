"""One batch: what a training step takes, as NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

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

    def check_rows(self) -> None:
        """Refuse inputs, labels and weights of different numbers of rows.

        Raises:
            DataError: names the numbers.
        """
        names = ("x", "y", "sample_weight")
        counts = {
            name: sorted({int(np.shape(leaf)[0]) for leaf in tree.leaves(part) if np.ndim(leaf)})
            for name, part in zip(names, (self.x, self.y, self.sample_weight))
        }
        if len({count for each in counts.values() for count in each}) > 1:
            found = [f"{name} has {_listed(each)}" for name, each in counts.items() if each]
            raise DataError(
                f"{', '.join(found)} rows: expected the same number in all. Pass the rows that "
                "belong together."
            )

    def take(self, rows: Any) -> Batch:
        """A batch of chosen rows.

        Args:
            rows: a slice, or an array of places, in the order wanted.
        """
        return Batch(
            tree.take(self.x, rows), tree.take(self.y, rows), tree.take(self.sample_weight, rows)
        )


def _listed(things: Sequence[Any]) -> str:
    return " and ".join(map(str, things))


def join(batches: Sequence[Batch]) -> Batch:
    """Batches of one structure as a single one, in order.

    Raises:
        DataError: the rows of two batches have different shapes.
    """
    shapes = {tuple(np.shape(leaf)[1:] for leaf in tree.leaves(batch.x)) for batch in batches}
    if len(shapes) > 1:
        raise DataError(
            "the data has batches of several shapes, and rows of all batches are needed as one "
            f"array: {_listed(sorted(map(str, shapes))[:3])}. Pad or crop them to one shape."
        )
    return Batch(
        tree.join([batch.x for batch in batches]),
        tree.join([batch.y for batch in batches]),
        tree.join([batch.sample_weight for batch in batches]),
    )
