"""Features of all rows, in memory or in files that a later run goes on with."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from typing import Any, Iterator, List, Optional

import numpy as np

from keras_bnguard.data import tree
from keras_bnguard.data.batch import Batch

MEMORY_LIMIT = 1 << 30
"""Features larger than this, in bytes, are kept in files."""


class FeatureStore:
    """Keeps the features of one or several sets of rows until `remove`.

    Args:
        folder: where files are written, and found again by a later run with the same weights and
            rows. Defaults to None: features above `MEMORY_LIMIT` are in a temporary folder,
            others in memory.
        dtype: to keep them in. Defaults to None: that of the trunk's outputs.
    """

    def __init__(self, folder: Optional[str] = None, dtype: Optional[str] = None) -> None:
        self._given = folder
        self._folder = folder
        self.dtype = None if dtype is None else np.dtype(dtype)

    def collect(self, batches: Iterator[Batch], rows: int, stamp: str) -> List[np.ndarray]:
        """The features of all rows, each of shape `(rows, ...)`.

        Args:
            batches: with features in the place of `x`; read as far as needed.
            rows: how many there are in all.
            stamp: of the weights and rows that the features depend on, see `stamp_of`.
        """
        if self._given is not None:
            found = self._complete(stamp)
            if found is not None:
                return found
        whole: List[np.ndarray] = []
        done = 0
        for batch in batches:
            parts = [np.asarray(leaf) for leaf in tree.leaves(batch.x)]
            whole = whole or self._make(parts, rows, stamp)
            for kept, part in zip(whole, parts):
                kept[done : done + len(part)] = part
            done += batch.rows
        self._finish(whole, stamp)
        return whole

    def remove(self) -> None:
        """Remove the files; the arrays must not be used afterwards."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = self._given

    def leave(self) -> None:
        """Training was interrupted: keep what a later run can use, and nothing else."""
        if self._given is None:
            self.remove()

    def _make(self, parts: List[np.ndarray], rows: int, stamp: str) -> List[np.ndarray]:
        dtypes = [self.dtype if part.dtype.kind == "f" else part.dtype for part in parts]
        stored = [dtype or part.dtype for dtype, part in zip(dtypes, parts)]
        shapes = [(rows, *part.shape[1:]) for part in parts]
        size = sum(int(np.prod(s)) * each.itemsize for s, each in zip(shapes, stored))
        if self._given is None and size <= MEMORY_LIMIT:
            return [np.empty(shape, each) for shape, each in zip(shapes, stored)]
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="bnguard-features-")
        os.makedirs(self._folder, exist_ok=True)
        return [
            np.lib.format.open_memmap(self._file(stamp, i), "w+", each, shape)
            for i, (shape, each) in enumerate(zip(shapes, stored))
        ]

    def _finish(self, whole: List[np.ndarray], stamp: str) -> None:
        if not all(isinstance(each, np.memmap) for each in whole):
            return
        for each in whole:
            each.flush()  # type: ignore[attr-defined]
        with open(self._mark(stamp), "w", encoding="utf-8") as file:
            json.dump({"arrays": len(whole)}, file)

    def _complete(self, stamp: str) -> Optional[List[np.ndarray]]:
        """Features that an earlier run finished, None where there are none."""
        try:
            with open(self._mark(stamp), encoding="utf-8") as file:
                count = int(json.load(file)["arrays"])
            return [np.load(self._file(stamp, i), mmap_mode="r+") for i in range(count)]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _file(self, stamp: str, index: int) -> str:
        return os.path.join(self._folder or "", f"{stamp}-{index}.npy")

    def _mark(self, stamp: str) -> str:
        return os.path.join(self._folder or "", f"{stamp}.json")


def stamp_of(weights: List[np.ndarray], x: Any, *more: Any) -> str:
    """A short text that differs where the weights, the rows or what else counts differ.

    Of more than 4,096 rows, every n-th is read.

    Args:
        weights: of the trunk.
        x: inputs, arrays with the same number of rows.
        more: anything with a `repr`.
    """
    found = hashlib.sha256(repr(more).encode())
    for array in weights:
        found.update(np.ascontiguousarray(array).tobytes())
    for leaf in tree.leaves(x):
        array = np.asarray(leaf)
        found.update(repr((array.shape, str(array.dtype))).encode())
        found.update(np.ascontiguousarray(array[:: 1 + len(array) // 4096]).tobytes())
    return found.hexdigest()[:24]
