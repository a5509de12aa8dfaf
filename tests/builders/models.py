"""Small models and runs for the tests that train."""

from __future__ import annotations

import numpy as np

from tests.stack import keras

layers = keras.layers
BN = layers.BatchNormalization


def data(rows=32, width=4, seed=0):
    """Inputs far from the default statistics, so that the first step updates BN."""
    rng = np.random.default_rng(seed)
    x = rng.normal(3.0, 2.0, (rows, width)).astype("float32")
    return x, x[:, :1] * 0.5 + 1.0


def backbone(name="base", width=4, units=(5,), dropout=0.5):
    """A functional model of Dense and BN, with relu between two pairs.

    The layers are `dense` and `bn`; of several pairs `dense1`, `bn1`, `relu1`, `dense2`, `bn2`.

    Args:
        name: name of the model.
        width: number of input features.
        units: width of each Dense.
        dropout: share that a last Dropout, `drop`, drops; 0: no such layer.
    """
    inputs = x = keras.Input((width,), name=f"{name}_in")
    for i, count in enumerate(units, 1):
        number = i if len(units) > 1 else ""
        x = layers.Dense(count, name=f"dense{number}")(x)
        x = BN(name=f"bn{number}")(x)
        if i < len(units):
            x = layers.Activation("relu", name=f"relu{number}")(x)
    if dropout:
        x = layers.Dropout(dropout, name="drop")(x)
    return keras.Model(inputs, x, name=name)


def with_head(base, head, training=None, name="net"):
    """A functional model: the base as one layer, called with `training` if given, then the head.

    Args:
        base: a built model.
        head: layers in the order in which they are called.
        training: the value written into the call of the base; None: no argument.
        name: name of the model.
    """
    inputs = keras.Input(tuple(base.input_shape[1:]), name="inputs")
    x = base(inputs) if training is None else base(inputs, training=training)
    for layer in head:
        x = layer(x)
    return keras.Model(inputs, x, name=name)


def transfer(training=None, base=None):
    """A backbone with BN, and a head with another."""
    base = base or backbone()
    head = [layers.Dense(3, name="hidden"), BN(name="head_bn"), layers.Dense(1, name="out")]
    return with_head(base, head, training)


def frozen_parent():
    """The backbone is frozen, its BN is trainable: the BN is updated unless it is forced."""
    model = transfer()
    base = model.get_layer("base")
    base.trainable = False
    base.get_layer("bn").trainable = True
    return model


class Net(keras.Model):
    """A subclassed model that hands `training` on."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.one = layers.Dense(5)
        self.bn = BN(name="bn")
        self.drop = layers.Dropout(0.3)
        self.two = layers.Dense(1)

    def call(self, x, training=None):
        x = self.bn(self.one(x), training=training)
        return self.two(self.drop(x, training=training))


class Leaky(Net):
    """A subclassed model that calls its first BN with an explicit False."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.late = BN(name="late")

    def call(self, x, training=None):
        x = self.bn(self.one(x), training=False)
        return self.two(self.late(x))


def sgd(**settings):
    return keras.optimizers.SGD(0.002, **settings)


def adam(**settings):
    return keras.optimizers.Adam(0.01, **settings)


def compiled(model, optimizer=None, loss="mse", **settings):
    """The model, compiled: with a slow SGD and the mean squared error if nothing else is given."""
    model.compile(optimizer or sgd(), loss, **settings)
    return model
