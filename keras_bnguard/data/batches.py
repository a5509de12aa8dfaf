"""Look at the user's data without using it up and without moving any random state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.values.tf_values import detached_dataset, is_dataset
from keras_bnguard.data.random_states import random_states_kept
from keras_bnguard.errors import DataError


@dataclass(frozen=True)
class Batch:
    """What one training step would get: x as the model takes it, y and weights or None."""

    x: Any
    y: Any = None
    sample_weight: Any = None

    @property
    def rows(self) -> int:
        """Number of samples."""
        return int(np.shape(_first(self.x))[0])


class Batches:
    """The first batches of anything `fit` takes, readable again and again.

    NumPy arrays, lists and dicts of arrays, `(x, y)` and `(x, y, sample_weight)` tuples,
    `tf.data.Dataset`, `PyDataset` and `Sequence`, torch `DataLoader`, lists of batches, and a
    function that returns an iterator of batches. A generator or iterator that can be read only
    once is refused: looking at it would take batches from training.

    Reading moves nothing: the global random states, random generators that the data holds,
    and the shuffles and caches of a tf.data.Dataset stay as they were. What an object of yours
    counts in attributes of its own while it is read cannot be put back.

    Args:
        data: see above. batch_size: rows per batch for arrays. limit: batches at most.
        x_only: data is what the model takes, not (x, y).
        spread: a fair sample rather than the beginning. "rows": rows of arrays in a fixed
            random order; "batches": batches over the whole length, the last one included.
            A PyDataset gives batches in both. None: from the beginning.

    Raises:
        DataError: data of another kind, a one-shot iterator, or no batch at all.
    """

    def __init__(
        self,
        data: Any,
        *,
        batch_size: int = 32,
        limit: Optional[int] = 64,
        x_only: bool = False,
        standard_error: Optional[str] = None,
    ) -> None:
        self._data = data
        self._batch_size = batch_size
        self._limit = limit
        self._x_only = x_only
        self._spread = standard_error
        self.samples: Optional[int] = None
        if isinstance(data, Batches):
            self._data, self._x_only = data._data, data._x_only
        elif hasattr(data, "__next__"):
            raise DataError(
                f"{type(data).__name__} can be read only once, and looking at it would take "
                "batches from training. Pass arrays, a tf.data.Dataset, a PyDataset, a DataLoader, "
                "a list of batches, or a function that returns a new iterator."
            )

    def __iter__(self) -> Iterator[Batch]:
        count = 0
        with random_states_kept(self._data):
            for batch in self._raw():
                count += 1
                yield batch
                if self._limit is not None and count >= self._limit:
                    return
        if not count:
            raise DataError(
                f"no batch came out of {type(self._data).__name__}; nothing to look at."
            )

    def _raw(self) -> Iterator[Batch]:
        data = self._data
        if callable(data) and not hasattr(data, "__getitem__"):
            for item in data():
                yield self._split(item)
        elif is_arrays(data):
            yield from self._slices(data)
        elif is_indexed(data):
            for index in self._places(len(data)):
                yield self._split(data[index])
        elif hasattr(data, "__iter__"):
            for item in detached_dataset(data) if is_dataset(data) else data:
                yield self._split(item)
        else:
            checked(data)

    def _slices(self, data: Any) -> Iterator[Batch]:
        whole = self._split(data)
        rows = whole.rows
        self.samples = rows
        order = np.random.default_rng(0).permutation(rows) if self._spread == "rows" else None
        for place in self._places(-(-rows // self._batch_size)):
            start = place * self._batch_size
            end = min(start + self._batch_size, rows)
            yield _rows_of(whole, slice(start, end) if order is None else order[start:end])

    def _places(self, length: int) -> Iterable[int]:
        """Which batches to read, of so many."""
        if not self._spread or self._limit is None or self._limit >= length:
            return range(length)
        return [int(i) for i in np.linspace(0, length - 1, self._limit)]

    def _split(self, item: Any) -> Batch:
        several = isinstance(item, tuple) or (isinstance(item, list) and len(item) > 1)
        if several and not self._x_only and 1 <= len(item) <= 3:
            parts = [_map(part, _as_numpy) for part in item] + [None, None]
            return Batch(parts[0], parts[1], parts[2])
        return Batch(_map(item, _as_numpy))


def join(batches: Sequence[Batch]) -> Batch:
    """Batches of one structure as a single one, in order."""
    first = batches[0]
    return Batch(
        _joined([b.x for b in batches]),
        None if first.y is None else _joined([b.y for b in batches]),
        None if first.sample_weight is None else _joined([b.sample_weight for b in batches]),
    )


def take(batch: Batch, rows: np.ndarray) -> Batch:
    """The rows at these places, in this order."""

    def chosen(array: Any) -> Any:
        return array[rows]

    return Batch(_map(batch.x, chosen), _map(batch.y, chosen), _map(batch.sample_weight, chosen))


def _joined(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, (list, tuple)):
        return [_joined([part[i] for part in parts]) for i in range(len(first))]
    return None if first is None else np.concatenate([np.asarray(part) for part in parts])


def checked(data: Any) -> Any:
    """Data as it is, where it is of a kind that batches can be read from.

    Raises:
        DataError: it is not; nothing was read to find out.
    """
    known = callable(data) or is_arrays(data) or is_indexed(data) or hasattr(data, "__iter__")
    if not known or isinstance(data, (str, bytes)):
        raise DataError(
            f"cannot read batches from {type(data).__name__}. Pass arrays, (x, y), a "
            "tf.data.Dataset, a PyDataset, a DataLoader or a list of batches."
        )
    return data


def _rows_of(whole: Batch, rows: Any) -> Batch:
    def cut(array: Any) -> Any:
        return array[rows]

    return Batch(_map(whole.x, cut), _map(whole.y, cut), _map(whole.sample_weight, cut))


def is_arrays(data: Any) -> bool:
    """Whole arrays, not batches: an array, a dict of arrays, or (x, y) of these."""
    if _is_array(data):
        return True
    if isinstance(data, dict):
        return all(is_arrays(value) for value in data.values())
    return (
        isinstance(data, tuple)
        and bool(data)
        and all(part is None or is_arrays(part) or _list_of_arrays(part) for part in data)
    )


def _list_of_arrays(part: Any) -> bool:
    return isinstance(part, (list, tuple)) and bool(part) and all(_is_array(p) for p in part)


def _is_array(thing: Any) -> bool:
    return hasattr(thing, "shape") and hasattr(thing, "dtype") and len(thing.shape) > 0


def is_indexed(data: Any) -> bool:
    """A PyDataset or Sequence, whose batches can be had in any order."""
    names = {cls.__name__ for cls in type(data).__mro__}
    return bool(names & {"PyDataset", "Sequence"}) and hasattr(data, "__getitem__")


def _as_numpy(value: Any) -> Any:
    if value is None or isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()
    if hasattr(value, "numpy"):
        return value.numpy()
    return np.asarray(value)


def _map(structure: Any, function: Any) -> Any:
    if isinstance(structure, dict):
        return {key: _map(value, function) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        return [_map(value, function) for value in structure]
    return None if structure is None else function(structure)


def _first(structure: Any) -> Any:
    while isinstance(structure, (dict, list, tuple)):
        structure = next(iter(structure.values())) if isinstance(structure, dict) else structure[0]
    return structure


def check_shapes(model: Any, batch: Batch) -> None:
    """Refuse data of a shape the model does not take, before anything is run.

    Raises:
        DataError: says the shape that was given and the one that was expected.
    """
    expected: Sequence[Any] = getattr(model, "inputs", None) or []
    given: List[Any] = _flat(batch.x)
    if len(expected) != len(given):
        return
    for tensor, array in zip(expected, given):
        want: Tuple[Any, ...] = tuple(tensor.shape)
        have: Tuple[int, ...] = tuple(np.shape(array))
        if len(want) != len(have) or any(
            w is not None and w != h for w, h in zip(want[1:], have[1:])
        ):
            raise DataError(
                f"the model takes batches of shape {want}, the data gives {have}. Pass data as the "
                "model is trained on it, with the batch axis first."
            )


def _flat(structure: Any) -> List[Any]:
    if isinstance(structure, dict):
        return [leaf for key in structure for leaf in _flat(structure[key])]
    if isinstance(structure, (list, tuple)):
        return [leaf for value in structure for leaf in _flat(value)]
    return [structure]
