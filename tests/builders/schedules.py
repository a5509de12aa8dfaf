"""A small transfer model, data in a fixed order, and the freeze / unfreeze recipe by hand."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

import numpy as np

import keras_bnguard as bng
from tests.stack import BACKEND, IS_KERAS3, STACK, keras

L = keras.layers
STEPS = 3
BATCH = 8
ON_TF = BACKEND == "tensorflow"


def data(seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    x = rng.normal(1.0, 2.0, (STEPS * BATCH, 6)).astype("float32")
    return x, (x.sum(axis=1, keepdims=True) > 6).astype("float32")


class CountsTraces(L.Layer):
    """Identity that counts how often its Python code runs, which in a graph is once a trace."""

    runs = 0

    def call(self, x: Any) -> Any:
        type(self).runs += 1
        return x * 1.0

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def backbone(trained: bool = True) -> Any:
    inputs = keras.Input((6,), name="pixels")
    x = L.Dense(8, name="dense1")(inputs)
    x = L.BatchNormalization(name="bn1")(x)
    x = L.Activation("relu", name="relu1")(x)
    x = L.Dense(5, name="dense2")(x)
    x = L.BatchNormalization(name="bn2")(x)
    model = keras.Model(inputs, x, name="backbone")
    rng = np.random.default_rng(3)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([rng.uniform(-0.5, 0.5, w.shape) for w in layer.get_weights()])
    for name in ("bn1", "bn2"):
        norm = model.get_layer(name)
        size = norm.gamma.shape[0]
        fresh = [np.ones(size), np.zeros(size), np.zeros(size), np.ones(size)]
        seen = [np.ones(size), np.zeros(size), rng.normal(0, 0.3, size), rng.uniform(1, 2, size)]
        norm.set_weights(seen if trained else fresh)
    return model


def transfer(training: Optional[bool] = None, dropout: float = 0.0, trained: bool = True) -> Any:
    """A backbone as one layer, and a head with a BN of its own; the same weights every time."""
    base = backbone(trained)
    inputs = keras.Input((6,), name="inputs")
    x = base(inputs) if training is None else base(inputs, training=training)
    x = CountsTraces(name="counts")(x)
    x = L.Dense(4, name="head_dense")(x)
    x = L.BatchNormalization(name="head_bn")(x)
    if dropout:
        x = L.Dropout(dropout, seed=5, name="head_drop")(x)
    x = L.Dense(1, activation="sigmoid", name="head_out")(x)
    model = keras.Model(inputs, x, name="net")
    rng = np.random.default_rng(4)
    for name in ("head_dense", "head_out"):
        layer = model.get_layer(name)
        layer.set_weights([rng.uniform(-0.5, 0.5, w.shape) for w in layer.get_weights()])
    return model


def optimizer(name: str = "Adam", learning_rate: float = 0.02, **settings: Any) -> Any:
    if name == "SGD":
        settings.setdefault("momentum", 0.9)
    return getattr(keras.optimizers, name)(learning_rate, **settings)


def compiled(model: Any, name: str = "Adam", learning_rate: float = 0.02, **settings: Any) -> Any:
    """Compiled with a given optimizer name; settings of `compile` and of the optimizer."""
    own = {k: settings.pop(k) for k in list(settings) if k not in COMPILE}
    settings.setdefault("loss", "binary_crossentropy")
    if STACK == "k3-tf":
        # Left to itself, Keras 3 has XLA compile every step, which takes longer than the test.
        settings.setdefault("jit_compile", False)
    model.compile(optimizer=optimizer(name, learning_rate, **own), **settings)
    return model


COMPILE = ("loss", "metrics", "jit_compile", "run_eagerly", "steps_per_execution")


def fit(model: Any, epochs: int, callbacks: Sequence[Any] = (), **kwargs: Any) -> Any:
    x, y = data()
    settings: Dict[str, Any] = {"batch_size": BATCH, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(x, y, epochs=epochs, callbacks=list(callbacks), **settings)


def scheduler(phases: Sequence[bng.Phase], **settings: Any) -> bng.PhaseScheduler:
    settings.setdefault("verbose", 0)
    return bng.PhaseScheduler(phases, **settings)


def head_then_all(first: int = 2, second: int = 2, **settings: Any) -> List[bng.Phase]:
    """The Keras guide: a head on a frozen backbone, then everything at a low learning rate."""
    return [
        bng.Phase("head", train="head*", learning_rate=1e-2, epochs=first, **settings),
        bng.Phase("all", train="*", learning_rate=1e-5, epochs=second, **settings),
    ]


def leaves(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from leaves(layer)
        else:
            yield layer


def freeze(model: Any, trains: Callable[[Any], bool]) -> None:
    for layer in leaves(model):
        layer.trainable = bool(trains(layer))


def head_only(layer: Any) -> bool:
    return bool(layer.name.startswith("head"))


def everything(layer: Any) -> bool:
    return True


def trainable_names(model: Any) -> List[str]:
    return sorted(layer.name for layer in leaves(model) if layer.trainable_weights)


def weights(model: Any) -> List[np.ndarray]:
    return [np.array(value, copy=True) for value in model.get_weights()]


def optimizer_variables(model: Any) -> List[np.ndarray]:
    found = model.optimizer.variables
    return [to_numpy(v) for v in (found() if callable(found) else found)]


def to_numpy(value: Any) -> np.ndarray:
    if IS_KERAS3:
        return np.array(keras.ops.convert_to_numpy(value))
    return np.array(value.numpy())


def tensor(array: np.ndarray) -> Any:
    if IS_KERAS3:
        return keras.ops.convert_to_tensor(array)
    import tensorflow as tf

    return tf.convert_to_tensor(array)


def same(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    """Bit for bit: as bytes, so that -0.0 is not 0.0 and a NaN is itself."""
    return [a.tobytes() for a in one] == [b.tobytes() for b in other]


def statistics(model: Any, *path: str) -> List[np.ndarray]:
    for name in path:
        model = model.get_layer(name)
    return [to_numpy(model.moving_mean), to_numpy(model.moving_variance)]


class At(keras.callbacks.Callback):
    """Calls a function of (model, epoch) at the start or end of each epoch, after the others."""

    def __init__(self, begin: Any = None, end: Any = None) -> None:
        super().__init__()
        self._begin, self._end = begin, end
        self.seen: List[Any] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._begin:
            self.seen.append(self._begin(self.model, epoch))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._end:
            self.seen.append(self._end(self.model, epoch))


def learning_rate(model: Any) -> float:
    inner = getattr(model.optimizer, "inner_optimizer", None) or model.optimizer
    return float(to_numpy(inner.learning_rate))


__all__ = ["BACKEND", "IS_KERAS3", "STACK", "keras"]
