"""Objects that give a new iterator of batches whenever they are iterated."""

from __future__ import annotations

from typing import Any, Iterator

from keras_bnguard.data.batch import Batch
from keras_bnguard.data.containers.base import Container, ReadingPlan


class IterableBatches(Container):
    """A list of batches, or any other iterable that can be read again."""

    name = "a list of batches"
    sampled = "the first 16 batches"

    @classmethod
    def recognises(cls, data: Any) -> bool:
        return hasattr(data, "__iter__") and not isinstance(data, (str, bytes))

    def batches(self, plan: ReadingPlan) -> Iterator[Batch]:
        for item in self.data:
            yield Batch.of(item)


class TorchDataLoader(IterableBatches):
    """A DataLoader of torch. Its generator is one of the random states that reading restores."""

    name = "a `DataLoader`"

    @classmethod
    def recognises(cls, data: Any) -> bool:
        names = {base.__name__ for base in type(data).__mro__}
        return "DataLoader" in names and hasattr(data, "__iter__")


class BatchFunction(Container):
    """A function that returns a new iterator of batches."""

    name = "a function that returns an iterator of batches"
    sampled = "the first 16 batches"

    @classmethod
    def recognises(cls, data: Any) -> bool:
        return callable(data) and not hasattr(data, "__getitem__")

    def batches(self, plan: ReadingPlan) -> Iterator[Batch]:
        for item in self.data():
            yield Batch.of(item)
