"""Subclasses of BN as projects write them, and a model that takes one."""

from __future__ import annotations

from typing import Any

from tests.builders.pipelines import FEATURES
from tests.stack import keras

L = keras.layers


class Yolo(L.BatchNormalization):
    """The subclass of many YOLO ports: `training` made to follow `trainable`."""

    def call(self, x: Any, training: Any = False) -> Any:
        if not training:
            training = False
        return super().call(x, training=bool(training) and self.trainable)


class YoloTF(L.BatchNormalization):
    """As in the TF ports, with tensors."""

    def call(self, x: Any, training: Any = False) -> Any:
        import tensorflow as tf

        if not training:
            training = tf.constant(False)
        training = tf.logical_and(training, self.trainable)
        return super().call(x, training)


class Renamed(L.BatchNormalization):
    def call(self, tensor: Any, training: Any = None, **kwargs: Any) -> Any:
        return super().call(tensor, training=training, **kwargs)


class Starred(L.BatchNormalization):
    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return super().call(inputs, *args, **kwargs)


class Dropping(L.BatchNormalization):
    """Takes no `training`, hands none on."""

    def call(self, x: Any) -> Any:
        return super().call(x)


class Stubborn(L.BatchNormalization):
    """Normalises with batch statistics even when it is frozen."""

    def call(self, x: Any, training: Any = None) -> Any:
        before = self._trainable
        object.__setattr__(self, "_trainable", True)
        try:
            return super().call(x, training=training)
        finally:
            object.__setattr__(self, "_trainable", before)


def with_norm(norm: Any) -> Any:
    """`plain` with another BN in it."""
    inputs = keras.Input((FEATURES,), name="inputs")
    x = L.Dense(8, name="dense")(inputs)
    x = L.Dense(1, activation="sigmoid", name="head")(L.Activation("relu")(norm(x)))
    return keras.Model(inputs, x, name="custom")
