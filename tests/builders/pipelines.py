"""Small models of many styles, with made weights and made data.

Every BN has a name of its own, so that a test can name the one it means. `pretend_trained`
gives BN the statistics a trained network would have, as loading weights does.
"""

from __future__ import annotations

from typing import Any, Iterable, Optional, Sequence, Tuple

import numpy as np

from tests.builders import models
from tests.stack import BACKEND, keras

L = keras.layers
FEATURES = 8


# ------------------------------------------------------------------------ data
def rows(n: int = 48, features: int = FEATURES, seed: int = 0) -> Tuple[np.ndarray, np.ndarray]:
    """Standard normal rows with a label that a line decides."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.0, 1.0, (n, features)).astype("float32")
    return x, (x.sum(axis=1) > 0).astype("float32")[:, None]


def images(n: int = 32, size: int = 8, channels: int = 3) -> Tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.uniform(0.0, 1.0, (n, size, size, channels)).astype("float32")
    return x, (rng.uniform(size=(n, 1)) > 0.5).astype("float32")


def digits(n: int = 64) -> Tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits: 8 by 8 pixels, whose borders are constant."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x[:n] / 16.0).astype("float32"), y[:n].astype("int64")


# ---------------------------------------------------------------------- pieces
def norms(model: Any) -> Iterable[Any]:
    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else model.layers
    return [layer for layer in layers if isinstance(layer, L.BatchNormalization)]


def pretend_trained(model: Any, mean: float = 0.0, standard_error: float = 1.0) -> Any:
    """Give every BN below a model statistics near those of standard normal inputs."""
    rng = np.random.default_rng(2)
    for norm in norms(model):
        size = int(norm.moving_mean.shape[0])
        norm.moving_mean.assign(rng.normal(mean, 0.05, size).astype("float32"))
        norm.moving_variance.assign(rng.uniform(0.8, 1.2, size).astype("float32") * standard_error)
    return model


# TensorFlow traces a step again where the first trace made optimizer state variables, which takes
# four times as long as without them. test_clean_runs.py and tests that ask for it use Adam there.
OPTIMIZER = "SGD" if BACKEND == "tensorflow" else "Adam"


def compiled(
    model: Any, learning_rate: float = 1e-3, optimizer: str = OPTIMIZER, **kwargs: Any
) -> Any:
    """The model, compiled as a classifier of two classes."""
    kwargs.setdefault("loss", "binary_crossentropy")
    return models.compiled(model, getattr(keras.optimizers, optimizer)(learning_rate), **kwargs)


def recompiled(model: Any, **kwargs: Any) -> Any:
    """Compile again the way the guides do: the same settings, a new optimizer."""
    kwargs.setdefault("loss", "binary_crossentropy")
    old = model.optimizer
    return models.compiled(model, type(old).from_config(old.get_config()), **kwargs)


# ------------------------------------------------------------------ backbones
def backbone(name: str = "backbone", units: Sequence[int] = (8, 8), trained: bool = True) -> Any:
    """Pairs of Dense and BN as one functional model, with the statistics of a trained one."""
    model = models.backbone(name, FEATURES, units, dropout=0.0)
    return pretend_trained(model) if trained else model


def image_backbone(name: str = "backbone", trained: bool = True, size: int = 8) -> Any:
    inputs = keras.Input((size, size, 3), name=f"{name}_in")
    x = L.Conv2D(4, 3, padding="same", use_bias=False, name="conv1")(inputs)
    x = L.BatchNormalization(name="conv1_bn")(x)
    x = L.Activation("relu", name="conv1_relu")(x)
    y = L.Conv2D(4, 3, padding="same", use_bias=False, name="conv2")(x)
    y = L.BatchNormalization(name="conv2_bn")(y)
    x = L.Add(name="add")([x, y])
    model = keras.Model(inputs, x, name=name)
    return pretend_trained(model) if trained else model


# ------------------------------------------------------------------ functional
def nested(base: Any, training: Optional[bool] = None, head_bn: bool = False) -> Any:
    """A backbone as one layer of a functional model, with a head."""
    head = [L.GlobalAveragePooling2D(name="pool")] if len(base.output_shape) == 4 else []
    if head_bn:
        head += [L.Dense(6, name="head_dense"), L.BatchNormalization(name="head_bn")]
    head.append(L.Dense(1, activation="sigmoid", name="head"))
    return models.with_head(base, head, training, name="outer")


def stacked(base: Any) -> Any:
    """A head on `base.output`: all layers in one flat graph, as `keras.applications` is used."""
    x = base.output
    if len(x.shape) == 4:
        x = L.GlobalAveragePooling2D(name="pool")(x)
    x = L.Dense(1, activation="sigmoid", name="head")(x)
    return keras.Model(base.input, x, name="flat")


def plain(name: str = "plain", features: int = FEATURES, **settings: Any) -> Any:
    """A fresh functional net: Dense, BN, relu, Dense."""
    inputs = keras.Input((features,), name=f"{name}_in")
    x = L.Dense(8, name="dense")(inputs)
    x = L.BatchNormalization(name="bn", **settings)(x)
    x = L.Activation("relu", name="relu")(x)
    x = L.Dense(1, activation="sigmoid", name="head")(x)
    return keras.Model(inputs, x, name=name)


def without_norm() -> Any:
    inputs = keras.Input((FEATURES,), name="inputs")
    x = L.Dense(8, activation="relu", name="dense")(inputs)
    return keras.Model(inputs, L.Dense(1, activation="sigmoid", name="head")(x), name="bare")


# ------------------------------------------------------------------ sequential
def sequential(built: bool = True) -> Any:
    layers = [
        L.Dense(8, name="dense"),
        L.BatchNormalization(name="bn"),
        L.ReLU(name="relu"),
        L.Dense(1, activation="sigmoid", name="head"),
    ]
    if built:
        layers.insert(0, keras.Input((FEATURES,)))
    return keras.Sequential(layers, name="sequence")


def sequential_around(base: Any) -> Any:
    return keras.Sequential(
        [keras.Input((FEATURES,)), base, L.Dense(1, activation="sigmoid", name="head")],
        name="sequence",
    )


# ------------------------------------------------------------------ subclassed
class Passing(keras.Model):
    """Hands `training` on to every layer."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = L.Dense(8, name="dense")
        self.bn = L.BatchNormalization(name="bn")
        self.drop = L.Dropout(0.2, name="drop")
        self.head = L.Dense(1, activation="sigmoid", name="head")

    def call(self, x: Any, training: Any = None) -> Any:
        x = self.bn(self.dense(x), training=training)
        return self.head(self.drop(x, training=training))


class NotPassing(Passing):
    """Leaves it to Keras to hand `training` on."""

    def call(self, x: Any, training: Any = None) -> Any:
        return self.head(self.drop(self.bn(self.dense(x))))


class AroundBackbone(keras.Model):
    """Subclassed, with a functional backbone inside and `training` handed on."""

    def __init__(self, base: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.base = base
        self.head_bn = L.BatchNormalization(name="head_bn")
        self.head = L.Dense(1, activation="sigmoid", name="head")

    def call(self, x: Any, training: Any = None) -> Any:
        x = self.base(x, training=training)
        return self.head(self.head_bn(x, training=training))


class StillBackbone(AroundBackbone):
    """The backbone explicitly in inference mode, the head with the `training` of the model."""

    def call(self, x: Any, training: Any = None) -> Any:
        x = self.base(x, training=False)
        return self.head(self.head_bn(x, training=training))


class Leaking(AroundBackbone):
    """The backbone explicitly in inference mode, the head without `training`."""

    def call(self, x: Any, training: Any = None) -> Any:
        x = self.base(x, training=False)
        return self.head(self.head_bn(x))
