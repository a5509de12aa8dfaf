"""Whole arrays: an array, a dict of arrays, or `(x, y)` and `(x, y, sample_weight)` of these."""

from __future__ import annotations

from typing import Any, Iterator, Optional

import numpy as np

from keras_bnguard.backends.values.arrays import is_table
from keras_bnguard.data import tree
from keras_bnguard.data.batch import Batch
from keras_bnguard.data.containers.base import Container, ReadingPlan, Sampling


class Arrays(Container):
    """Rows in memory, which `fit` cuts into batches."""

    name = "arrays, tables of pandas, dicts of arrays, `(x, y)` or `(x, y, sample_weight)`"
    sampled = "16 batches of rows drawn at random (a fixed seed)"
    order = "known only with `fit(shuffle=False)`"
    is_in_memory = True
    reaches_the_end = True
    keeps_training_order = False

    @classmethod
    def recognises(cls, data: Any) -> bool:
        if _is_array(data):
            return True
        if isinstance(data, dict):
            return all(cls.recognises(value) for value in data.values())
        return (
            isinstance(data, tuple)
            and bool(data)
            and all(p is None or cls.recognises(p) or _is_list_of_arrays(p) for p in data)
        )

    @property
    def why_not_unasked(self) -> str:
        return ""

    @property
    def rows(self) -> Optional[int]:
        x = self.data[0] if isinstance(self.data, tuple) else self.data
        first = tree.first_leaf(x)
        return None if first is None else int(first.shape[0])

    def last_rows(self, batch_size: int) -> Optional[int]:
        return (self.rows % batch_size or batch_size) if self.rows else None

    def batches(self, plan: ReadingPlan) -> Iterator[Batch]:
        whole = Batch.of(self.data)
        whole.check_rows()
        rows, size = whole.rows, plan.batch_size
        order = None
        if plan.sampling is Sampling.RANDOM_ROWS:
            order = np.random.default_rng(0).permutation(rows)
        for place in plan.places(-(-rows // size)):
            here = slice(place * size, min((place + 1) * size, rows))
            yield whole.take(here if order is None else order[here])


def _is_array(thing: Any) -> bool:
    if is_table(thing):
        return True
    return hasattr(thing, "shape") and hasattr(thing, "dtype") and len(thing.shape) > 0


def _is_list_of_arrays(part: Any) -> bool:
    return isinstance(part, (list, tuple)) and bool(part) and all(_is_array(p) for p in part)
