"""Small models of many styles, with made weights and made data.

Every BN has a name of its own, so that a test can name the one it means. `pretend_trained`
gives BN the statistics a trained network would have, as loading weights does.
"""

from __future__ import annotations

from typing import Any, Iterable, Optional, Tuple

import numpy as np

from tests.stack import BACKEND, IS_KERAS3, keras

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
    kwargs.setdefault("loss", "binary_crossentropy")
    model.compile(optimizer=getattr(keras.optimizers, optimizer)(learning_rate), **kwargs)
    return model


def recompiled(model: Any, **kwargs: Any) -> Any:
    """Compile again the way the guides do: the same settings, a new optimizer."""
    kwargs.setdefault("loss", "binary_crossentropy")
    old = model.optimizer
    model.compile(optimizer=type(old).from_config(old.get_config()), **kwargs)
    return model


# ------------------------------------------------------------------ backbones
def backbone(name: str = "backbone", features: int = FEATURES, trained: bool = True) -> Any:
    """Dense and BN, twice, as one functional model with the statistics of a trained one."""
    inputs = keras.Input((features,), name=f"{name}_in")
    x = L.Dense(8, name="dense1")(inputs)
    x = L.BatchNormalization(name="bn1")(x)
    x = L.Activation("relu", name="relu1")(x)
    x = L.Dense(8, name="dense2")(x)
    x = L.BatchNormalization(name="bn2")(x)
    model = keras.Model(inputs, x, name=name)
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
    inputs = keras.Input(tuple(base.input_shape[1:]), name="inputs")
    x = base(inputs) if training is None else base(inputs, training=training)
    if len(x.shape) == 4:
        x = L.GlobalAveragePooling2D(name="pool")(x)
    if head_bn:
        x = L.Dense(6, name="head_dense")(x)
        x = L.BatchNormalization(name="head_bn")(x)
    x = L.Dense(1, activation="sigmoid", name="head")(x)
    return keras.Model(inputs, x, name="outer")


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


# ---------------------------------------------------------------- own train_step
class OwnStep:
    """Mixin: a `train_step` of one's own, right where `inference` is False.

    With `inference=True` it is the mistake of calling `self(x)` without `training=True`.
    """

    inference = False

    def in_step(self, x: Any) -> Any:
        return self(x) if self.inference else self(x, training=True)

    if BACKEND == "jax":

        def train_step(self, state: Any, data: Any) -> Any:
            import jax

            trainable, frozen, optimizer, metrics = state
            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            more = {} if self.inference else {"training": True}

            def loss_of(trainable: Any, frozen: Any) -> Any:
                y_pred, frozen = self.stateless_call(trainable, frozen, x, **more)
                return self.compute_loss(x, y, y_pred), frozen

            (loss, frozen), grads = jax.value_and_grad(loss_of, has_aux=True)(trainable, frozen)
            trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
            return {"loss": loss}, (trainable, frozen, optimizer, metrics)

    elif BACKEND == "torch":

        def train_step(self, data: Any) -> Any:
            import torch

            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            self.zero_grad()
            loss = self.compute_loss(x=x, y=y, y_pred=self.in_step(x))
            loss.backward()
            with torch.no_grad():
                self.optimizer.apply(
                    [v.value.grad for v in self.trainable_weights], self.trainable_weights
                )
            return {"loss": loss.detach()}

    else:

        def train_step(self, data: Any) -> Any:
            import tensorflow as tf

            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            with tf.GradientTape() as tape:
                y_pred = self.in_step(x)
                if IS_KERAS3:
                    loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
                else:
                    loss = self.compiled_loss(y, y_pred)
            grads = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(grads, self.trainable_variables))
            return {"loss": loss}


class OwnStepModel(OwnStep, keras.Model):
    """A functional model with a step of its own."""


class InferenceStepModel(OwnStep, keras.Model):
    """A functional model whose own step forgets `training=True`."""

    inference = True


class OwnStepSubclass(OwnStep, Passing):
    """A subclassed model with a step of its own."""


class InferenceStepSubclass(OwnStep, Passing):
    inference = True


def own_step(cls: Any, **settings: Any) -> Any:
    """`plain` as an instance of another model class."""
    model = plain(**settings)
    return cls(model.inputs, model.outputs, name="plain")


# --------------------------------------------------------------- BN subclasses
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
