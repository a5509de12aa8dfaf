"""A small transfer model, data in a fixed order, and the freeze / unfreeze recipe by hand."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np

import keras_bnguard as bng
from tests.builders import models
from tests.builders.values import (
    as_array,
    learning_rate,
    leaves,
    optimizer_variables,
    same,
    statistics,
    tensor,
    weights,
)
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
    """The backbone of `models` with two pairs of Dense and BN; the same weights every time."""
    model = models.backbone("backbone", width=6, units=(8, 5), dropout=0.0)
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
    head = [
        CountsTraces(name="counts"),
        L.Dense(4, name="head_dense"),
        L.BatchNormalization(name="head_bn"),
        *([L.Dropout(dropout, seed=5, name="head_drop")] if dropout else []),
        L.Dense(1, activation="sigmoid", name="head_out"),
    ]
    model = models.with_head(base, head, training)
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
    return models.compiled(model, optimizer(name, learning_rate, **own), **settings)


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


def freeze(model: Any, trains: Callable[[Any], bool]) -> None:
    for layer in leaves(model):
        layer.trainable = bool(trains(layer))


def head_only(layer: Any) -> bool:
    return bool(layer.name.startswith("head"))


def everything(layer: Any) -> bool:
    return True


def trainable_names(model: Any) -> List[str]:
    return sorted(layer.name for layer in leaves(model) if layer.trainable_weights)


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


__all__ = [
    "BACKEND",
    "IS_KERAS3",
    "STACK",
    "as_array",
    "keras",
    "learning_rate",
    "optimizer_variables",
    "same",
    "statistics",
    "tensor",
    "weights",
]
