"""Data that is not read: iterators, and objects of no known kind."""

from __future__ import annotations

from typing import Any, Iterator

from keras_bnguard.data.batch import Batch
from keras_bnguard.data.containers.base import Container, ReadingPlan
from keras_bnguard.errors import DataError


class OneShotIterator(Container):
    """A generator or iterator. What is read from it is lost to training."""

    name = "a generator or iterator that can be read only once"
    sampled = "nothing: it is left to training"
    order = "-"

    @classmethod
    def recognises(cls, data: Any) -> bool:
        return hasattr(data, "__next__")

    @property
    def why_not_again(self) -> str:
        return f"{self.kind} can be read only once, and training needs all of its batches."

    @property
    def why_not_unasked(self) -> str:
        return (
            f"{self.kind} can be read only once and is left to training: give BNGuard(data=...) a "
            "function that returns a new one"
        )

    def batches(self, plan: ReadingPlan) -> Iterator[Batch]:
        raise DataError(self.why_not_again)


class DistributedData(Container):
    """Data of a distribution strategy, of which each replica has a part."""

    name = "a distributed dataset (`strategy.experimental_distribute_dataset`)"
    sampled = "nothing: pass the dataset that it was made of"
    order = "-"
    is_readable = False

    @classmethod
    def recognises(cls, data: Any) -> bool:
        return any("Distributed" in base.__name__ for base in type(data).__mro__)

    @property
    def why_not_again(self) -> str:
        return f"{self.kind} is split over replicas: pass the tf.data.Dataset that it was made of."

    def batches(self, plan: ReadingPlan) -> Iterator[Batch]:
        raise DataError(self.why_not_again)


class UnknownData(Container):
    """An object that batches cannot be read from."""

    name = "anything else"
    sampled = "nothing: it is refused"
    order = "-"
    is_readable = False

    @classmethod
    def recognises(cls, data: Any) -> bool:
        return True

    @property
    def why_not_again(self) -> str:
        return f"cannot read batches from {self.kind}."

    def batches(self, plan: ReadingPlan) -> Iterator[Batch]:
        raise DataError(self.why_not_again)
