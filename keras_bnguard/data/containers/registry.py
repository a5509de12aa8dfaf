"""Every kind of data, in the order in which they are tried."""

from __future__ import annotations

from typing import Any, Tuple, Type

from keras_bnguard.data.containers.arrays import Arrays
from keras_bnguard.data.containers.base import Container
from keras_bnguard.data.containers.indexed import IndexedBatches
from keras_bnguard.data.containers.iterables import (
    BatchFunction,
    IterableBatches,
    TorchDataLoader,
)
from keras_bnguard.data.containers.refused import DistributedData, OneShotIterator, UnknownData
from keras_bnguard.data.containers.tf_dataset import TensorFlowDataset
from keras_bnguard.errors import DataError

CONTAINERS: Tuple[Type[Container], ...] = (
    DistributedData,
    OneShotIterator,
    BatchFunction,
    Arrays,
    IndexedBatches,
    TensorFlowDataset,
    TorchDataLoader,
    IterableBatches,
    UnknownData,
)

DATA_ARGUMENT = (
    "arrays, (x, y), a dataset, a loader, a list of batches, or a function that returns an "
    "iterator of batches; docs/data-rules.md lists every kind."
)
"""How every docstring describes an argument `data`."""


def container_of(data: Any) -> Container:
    """The container of an object; `UnknownData` where batches cannot be read from it."""
    return next(cls for cls in CONTAINERS if cls.recognises(data))(data)


def readable_container(data: Any) -> Container:
    """The container of an object that batches can be read from; nothing is read.

    Raises:
        DataError: batches cannot be read from it.
    """
    container = container_of(data)
    if not container.is_readable:
        raise DataError(f"data: {container.why_not_again} {advice()}")
    return container


def rereadable_container(data: Any) -> Container:
    """The container of an object that can be read without effect on training.

    Raises:
        DataError: it can be read only once, or not at all.
    """
    container = container_of(data)
    if container.why_not_again:
        raise DataError(f"data: {container.why_not_again} {advice()}")
    return container


def advice() -> str:
    """What to pass instead, for an error message."""
    refused = (DistributedData, OneShotIterator, UnknownData)
    names = [cls.name.replace("`", "") for cls in CONTAINERS if cls not in refused]
    names.sort(key=lambda name: not name.startswith("arrays"))
    return f"Pass {', '.join(names[:-1])} or {names[-1]}."
