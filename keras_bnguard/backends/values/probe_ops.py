"""Array operations of a probe: `keras.ops` for Keras 3, TensorFlow for Keras 2."""

from __future__ import annotations

from typing import Any, List, Sequence

from keras_bnguard.backends.interface import ArrayOperations


class KerasOps(ArrayOperations):
    """Keras 3 on any backend."""

    def __init__(self, keras: Any) -> None:
        self.ops = keras.ops

    def cast(self, x: Any, like: Any = None) -> Any:
        return self.ops.cast(x, "float32" if like is None else like.dtype)

    def mean(self, x: Any, axes: List[int], weights: Any) -> Any:
        if weights is None:
            return self.ops.mean(x, axis=axes)
        total = self.ops.sum(weights, axis=axes)
        return self.ops.sum(x * weights, axis=axes) / self.ops.maximum(total, 1.0)

    def count(self, x: Any, axes: List[int], weights: Any) -> Any:
        if weights is not None:
            return self.ops.max(self.ops.sum(weights, axis=axes))
        shape = self.ops.shape(x)
        product: Any = 1
        for i in axes:
            product = product * shape[i]
        return self.ops.cast(product, "float32")

    def weights(self, mask: Any, x: Any) -> Any:
        repeated = self.ops.broadcast_to(self.ops.expand_dims(mask, -1), self.ops.shape(x))
        return self.ops.cast(repeated, "float32")

    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        return self.ops.reshape(x, tuple(shape))

    def join(self, parts: Sequence[Any]) -> Any:
        return self.ops.concatenate([self.ops.reshape(part, (-1,)) for part in parts])

    def rsqrt(self, x: Any) -> Any:
        return self.ops.rsqrt(x)


class TensorFlowOps(ArrayOperations):
    """Keras 2."""

    def __init__(self) -> None:
        import tensorflow as tf

        self.tf = tf

    def cast(self, x: Any, like: Any = None) -> Any:
        return self.tf.cast(x, self.tf.float32 if like is None else like.dtype)

    def mean(self, x: Any, axes: List[int], weights: Any) -> Any:
        if weights is None:
            return self.tf.reduce_mean(x, axis=axes)
        total = self.tf.reduce_sum(weights, axis=axes)
        return self.tf.reduce_sum(x * weights, axis=axes) / self.tf.maximum(total, 1.0)

    def count(self, x: Any, axes: List[int], weights: Any) -> Any:
        if weights is not None:
            return self.tf.reduce_max(self.tf.reduce_sum(weights, axis=axes))
        shape = self.tf.shape(x)
        return self.tf.cast(self.tf.reduce_prod([shape[i] for i in axes]), self.tf.float32)

    def weights(self, mask: Any, x: Any) -> Any:
        repeated = self.tf.broadcast_to(self.tf.expand_dims(mask, -1), self.tf.shape(x))
        return self.tf.cast(repeated, self.tf.float32)

    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        return self.tf.reshape(x, list(shape))

    def join(self, parts: Sequence[Any]) -> Any:
        return self.tf.concat([self.tf.reshape(part, [-1]) for part in parts], axis=0)

    def rsqrt(self, x: Any) -> Any:
        return self.tf.math.rsqrt(x)
