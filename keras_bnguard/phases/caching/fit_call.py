"""The arguments of `PhaseScheduler.fit`, and what of them forbids to cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

import numpy as np

from keras_bnguard.backends.values.arrays import to_numpy
from keras_bnguard.data import tree


@dataclass(frozen=True)
class FitCall:
    """One call of `fit`.

    Attributes:
        x: inputs.
        y: targets.
        sample_weight: weights of the rows.
        validation_data: as given.
        validation_split: as given.
        settings: all other arguments of `fit`, without `callbacks` and `verbose`.
    """

    x: Any
    y: Any
    sample_weight: Any
    validation_data: Any
    validation_split: float
    settings: Dict[str, Any]

    @property
    def batch_size(self) -> int:
        """Rows per batch, 32 where `fit` decides."""
        return int(self.settings.get("batch_size") or 32)

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return -(-len(tree.first_leaf(self.x)) // self.batch_size)

    def what_forbids(self) -> str:
        """Why features of the data cannot be computed once; "" where they can."""
        if self.settings.get("steps_per_epoch") is not None:
            return "steps_per_epoch= was passed, and epochs go on where the one before ended"
        for what, part in (("x", self.x), ("y", self.y), ("sample_weight", self.sample_weight)):
            if not _arrays(part):
                return _no_arrays(what, part)
        if self.x is None:
            return "x is None"
        if self.validation_data is not None:
            if not isinstance(self.validation_data, (tuple, list)):
                return _no_arrays("validation_data", self.validation_data)
            for part in self.validation_data:
                if not _arrays(part):
                    return _no_arrays("validation_data", part)
        return ""

    def as_numpy(self) -> FitCall:
        """The same call with NumPy arrays, and `validation_split` carried out as `fit` does."""
        x, y, weight = (tree.map_leaves(to_numpy, p) for p in (self.x, self.y, self.sample_weight))
        validation = self.validation_data
        if validation is not None:
            validation = tuple(tree.map_leaves(to_numpy, part) for part in validation)
        elif self.validation_split:
            rows = len(tree.first_leaf(x))
            at = int(np.floor(rows * (1.0 - self.validation_split)))
            (x, validation), (y, val_y), (weight, val_weight) = (
                _split(part, at) for part in (x, y, weight)
            )
            validation = (validation, val_y) + (() if val_weight is None else (val_weight,))
        return FitCall(x, y, weight, validation, 0.0, self.settings)

    def arguments(
        self, x: Any, validation_x: Optional[Any], settings: Dict[str, Any]
    ) -> Dict[str, Any]:
        """What to call `fit` with.

        Args:
            x: inputs, or features of them.
            validation_x: the same for the validation data.
            settings: in the place of some of those given.
        """
        validation = self.validation_data
        if validation is not None and validation_x is not None:
            validation = (validation_x, *validation[1:])
        return {
            **self.settings,
            **settings,
            "x": x,
            "y": self.y,
            "sample_weight": self.sample_weight,
            "validation_data": validation,
        }


def _split(part: Any, at: int) -> Tuple[Any, Any]:
    return tree.take(part, slice(at)), tree.take(part, slice(at, None))


def _arrays(part: Any) -> bool:
    """Whether something is arrays with rows, in a dict or list, or None; no tables, no datasets."""
    return all(
        hasattr(leaf, "shape")
        and hasattr(leaf, "dtype")
        and not hasattr(leaf, "iloc")
        and len(leaf.shape) > 0
        and leaf.shape[0] is not None
        for leaf in tree.leaves(part)
    )


def _no_arrays(what: str, part: Any) -> str:
    leaf = next((each for each in tree.leaves(part) if not hasattr(each, "dtype")), part)
    kind = type(leaf).__name__
    return f"{what} is {kind}, which may give other rows in each pass: pass NumPy arrays"
