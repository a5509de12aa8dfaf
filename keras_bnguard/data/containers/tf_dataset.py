"""`tf.data.Dataset`, read through a copy of its graph."""

from __future__ import annotations

from typing import Any, Iterator

from keras_bnguard.backends.values.tf_values import detached_dataset, is_dataset
from keras_bnguard.data.batch import Batch
from keras_bnguard.data.containers.base import Container, ReadingPlan


class TensorFlowDataset(Container):
    """A dataset of batches. Reading the object itself would change its next shuffle."""

    name = "a `tf.data.Dataset`"
    sampled = "the first 16 batches"

    @classmethod
    def recognises(cls, data: Any) -> bool:
        return is_dataset(data)

    @property
    def is_endless(self) -> bool:
        cardinality = getattr(self.data, "cardinality", None)
        infinite = -1
        return cardinality is not None and int(cardinality()) == infinite

    def batches(self, plan: ReadingPlan) -> Iterator[Batch]:
        for item in detached_dataset(self.data):
            yield Batch.of(item)
