"""`keras.utils.PyDataset` and `Sequence`: batches by number."""

from __future__ import annotations

from typing import Any, Iterator

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

    def batches(self, plan: ReadingPlan) -> Iterator[Batch]:
        for place in plan.places(len(self.data)):
            yield Batch.of(self.data[place])
