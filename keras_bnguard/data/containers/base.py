"""The interface of a data container: one subclass for each kind of data that `fit` takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Iterable, Iterator, Optional

import numpy as np

from keras_bnguard.data.batch import Batch


class Sampling(Enum):
    """Which batches are read where there are more than the limit."""

    FIRST_BATCHES = "from the beginning"
    EVENLY_SPACED_BATCHES = "batches over the whole length, the last one included"
    RANDOM_ROWS = "the same, of rows in a fixed random order where the order can be chosen"


@dataclass(frozen=True)
class ReadingPlan:
    """How much of the data is read.

    Attributes:
        batch_size: rows per batch where the data is arrays.
        limit: batches at most, None for all.
        sampling: which batches, where there are more than the limit.
    """

    batch_size: int = 32
    limit: Optional[int] = None
    sampling: Sampling = Sampling.FIRST_BATCHES

    def places(self, length: int) -> Iterable[int]:
        """Places of the batches to read, of so many."""
        first = self.sampling is Sampling.FIRST_BATCHES
        if first or self.limit is None or self.limit >= length:
            return range(length)
        return [int(i) for i in np.linspace(0, length - 1, self.limit)]


class Container(ABC):
    """One kind of data.

    A new kind is a subclass in a file of this folder, a line in `CONTAINERS` of `registry.py`
    and a row of the table in docs/data-rules.md (`docs_row` gives it).

    Args:
        data: an object that `recognises` accepts.

    Attributes:
        name: what messages and docs call this kind.
        sampled: which part of it the data rules read, for the docs.
        order: whether its batches come as training gets them, for the docs.
        is_readable: batches can be read from it at all.
        is_in_memory: rows lie in memory; reading them runs no code of the user.
        reaches_the_end: a sample of its batches includes the last one.
        keeps_training_order: a sample has the batches as training gets them.
    """

    name: ClassVar[str]
    sampled: ClassVar[str]
    order: ClassVar[str] = "as trained on"
    is_readable: ClassVar[bool] = True
    is_in_memory: ClassVar[bool] = False
    reaches_the_end: ClassVar[bool] = False
    keeps_training_order: ClassVar[bool] = True

    def __init__(self, data: Any) -> None:
        self.data = data

    @classmethod
    @abstractmethod
    def recognises(cls, data: Any) -> bool:
        """Whether an object is of this kind; reads nothing from it."""

    @abstractmethod
    def batches(self, plan: ReadingPlan) -> Iterator[Batch]:
        """Read batches from the beginning, without effect on what training will read later."""

    @property
    def rows(self) -> Optional[int]:
        """Rows of the whole data, None where only reading it would show them."""
        return None

    def last_rows(self, batch_size: int) -> Optional[int]:
        """Rows of the last batch, None where only reading it would show them."""
        return None

    @property
    def is_endless(self) -> bool:
        """Whether the data is known to repeat without end."""
        return False

    @property
    def why_not_again(self) -> str:
        """Why the data cannot be read without effect on training; empty where it can."""
        return ""

    @property
    def why_not_unasked(self) -> str:
        """Why the data is not read unless the user asks for it; empty where it is."""
        return f"{self.kind} is only read on request: pass it as BNGuard(data=...)"

    @property
    def kind(self) -> str:
        """Name of the class of the data."""
        return type(self.data).__name__

    @classmethod
    def docs_row(cls) -> str:
        """The row of this kind in the table of docs/data-rules.md."""
        return f"| {cls.name} | {cls.sampled} | {cls.order} |"
