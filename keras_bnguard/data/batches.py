"""Batches of the user's data, read without using it up and without effect on random states."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from keras_bnguard.backends.values.restore import SavedRandomStates, restoring
from keras_bnguard.data.batch import Batch
from keras_bnguard.data.containers.base import ReadingPlan, Sampling
from keras_bnguard.data.containers.registry import rereadable_container
from keras_bnguard.data.random_states import states_in
from keras_bnguard.errors import DataError


class Batches:
    """The first batches of anything `fit` takes; every iteration reads them again.

    Reading has no side effect: the global random states, random generators that the data holds,
    and the shuffles and caches of a tf.data.Dataset stay as they were. What an object of yours
    counts in attributes of its own while it is read cannot be restored.

    Args:
        data: arrays, (x, y), a dataset, a loader, a list of batches, or a function that returns an
            iterator of batches; docs/data-rules.md lists every kind.
        batch_size: rows per batch where data is arrays. Defaults to 32.
        limit: batches at most, None for all. Defaults to 64.
        sampling: which batches, where there are more. Defaults to the first ones.

    Attributes:
        container: the kind of data.

    Raises:
        DataError: data of another kind, a one-shot iterator; while iterating: no batch at all.
    """

    def __init__(
        self,
        data: Any,
        *,
        batch_size: int = 32,
        limit: Optional[int] = 64,
        sampling: Sampling = Sampling.FIRST_BATCHES,
    ) -> None:
        self.container = rereadable_container(data)
        self._plan = ReadingPlan(batch_size, limit, sampling)

    @property
    def count(self) -> Optional[int]:
        """How many batches there are, None where that is not known."""
        rows = self.container.rows if self.container.is_in_memory else None
        if rows is None:
            return None
        count = -(-int(rows) // self._plan.batch_size)
        return count if self._plan.limit is None else min(count, self._plan.limit)

    def __iter__(self) -> Iterator[Batch]:
        count = 0
        with restoring(SavedRandomStates(more=states_in(self.container.data))):
            for batch in self.container.batches(self._plan):
                count += 1
                yield batch
                if self._plan.limit is not None and count >= self._plan.limit:
                    return
        if not count:
            raise DataError(f"{self.container.kind} gave no batch.")
