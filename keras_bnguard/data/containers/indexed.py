"""`keras.utils.PyDataset` and `Sequence`: batches by number."""

from __future__ import annotations

import itertools
from typing import Any, Iterable, Iterator

from keras_bnguard.data.batch import Batch
from keras_bnguard.data.containers.base import Container, ReadingPlan

CLASSES = frozenset({"PyDataset", "Sequence"})


class IndexedBatches(Container):
    """A PyDataset or Sequence, whose batches can be read in any order."""

    name = "a `PyDataset` or `Sequence`"
    sampled = "16 batches at even distances, and the last"
    reaches_the_end = True

    @classmethod
    def recognises(cls, data: Any) -> bool:
        names = {base.__name__ for base in type(data).__mro__}
        return bool(names & CLASSES) and hasattr(data, "__getitem__")

    @property
    def is_endless(self) -> bool:
        return getattr(self.data, "num_batches", 0) is None

    def batches(self, plan: ReadingPlan) -> Iterator[Batch]:
        if self.is_endless:
            places: Iterable[int] = range(plan.limit) if plan.limit else itertools.count()
        else:
            places = plan.places(len(self.data))
        for place in places:
            yield Batch.of(self.data[place])
