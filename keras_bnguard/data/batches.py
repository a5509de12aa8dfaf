"""Batches of the user's data, read without using it up and without effect on random states."""

from __future__ import annotations

from typing import Any, Iterator, Optional

import numpy as np

from keras_bnguard.backends.values.restore import SavedRandomStates, restoring
from keras_bnguard.data.batch import Batch
from keras_bnguard.data.containers.base import ReadingPlan, Sampling
from keras_bnguard.data.containers.registry import rereadable_container
from keras_bnguard.data.random_states import states_in
from keras_bnguard.errors import DataError, SettingError


def is_count(value: Any) -> bool:
    """Whether a value is a whole number of at least 1; NumPy's count, too."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return whole and bool(value >= 1)


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
        SettingError: `batch_size` or `limit` is no whole number of at least 1.
        DataError: data of another kind, a one-shot iterator, data without end and no limit; while
            iterating: no batch at all, a batch that is no array.
    """

    def __init__(
        self,
        data: Any,
        *,
        batch_size: int = 32,
        limit: Optional[int] = 64,
        sampling: Sampling = Sampling.FIRST_BATCHES,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("max_batches", limit)):
            if (name == "batch_size" or value is not None) and not is_count(value):
                raise SettingError(f"{name}={value!r}: expected a whole number of at least 1.")
        self.container = rereadable_container(data)
        if limit is None and self.container.is_endless:
            raise DataError(
                f"{self.container.kind} never ends, so all of it cannot be read. Pass "
                "max_batches=, or the data without repeat()."
            )
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
