"""Small models and runs for the tests that train."""

from __future__ import annotations

import random

import numpy as np

from tests.stack import BACKEND, IS_KERAS3, keras

layers = keras.layers
BN = layers.BatchNormalization


def data(rows=32, width=4, seed=0):
    """Inputs far from the default statistics, so that the first step updates BN."""
    rng = np.random.default_rng(seed)
    x = rng.normal(3.0, 2.0, (rows, width)).astype("float32")
    return x, x[:, :1] * 0.5 + 1.0


def backbone(name="base"):
    inputs = keras.Input((4,))
    x = layers.Dense(5, name="dense")(inputs)
    x = BN(name="bn")(x)
    x = layers.Dropout(0.5, name="drop")(x)
    return keras.Model(inputs, x, name=name)


def transfer(training=None, base=None):
    """A backbone with BN, and a head with another."""
    inputs = keras.Input((4,))
    base = base or backbone()
    x = base(inputs) if training is None else base(inputs, training=training)
    x = layers.Dense(3, name="hidden")(x)
    x = BN(name="head_bn")(x)
    return keras.Model(inputs, layers.Dense(1, name="out")(x), name="net")


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


def statistics(layer):
    """Every non-trained vector of a BN, the renorm ones too, as bytes."""
    return [np.array(as_array(v)).tobytes() for v in vectors(layer)]


def vectors(layer):
    names = ("moving_mean", "moving_variance", "renorm_mean", "renorm_stddev")
    return [getattr(layer, n) for n in names if getattr(layer, n, None) is not None]


def as_array(variable):
    """The value of any backend's variable or tensor as a copy."""
    value = getattr(variable, "value", variable)
    if callable(value):
        value = value()
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return np.array(value.numpy() if hasattr(value, "numpy") else value)


def optimizer_state(model):
    optimizer = model.optimizer
    variables = optimizer.variables
    variables = variables() if callable(variables) else variables
    return [as_array(v).tobytes() for v in variables]


def random_state():
    """The next random numbers of everything a run could have drawn from."""
    drawn = [random.random(), float(np.random.random())]
    if IS_KERAS3:
        drawn.append(as_array(keras.random.uniform((2,))).tolist())
    if BACKEND == "tensorflow":
        import tensorflow as tf

        drawn.append(tf.random.uniform((2,)).numpy().tolist())
    if BACKEND == "torch":
        import torch

        drawn.append(torch.rand(2).tolist())
    return drawn


def seed_states(model):
    """The state of every Keras 3 seed generator in a model."""
    states = []
    for layer in [model, *all_layers(model)]:
        generator = getattr(layer, "seed_generator", None)
        state = getattr(generator, "state", None)
        if state is not None:
            states.append(as_array(state).tolist())
    return states


def all_layers(model):
    found = []
    for layer in getattr(model, "layers", ()):
        found += [layer, *all_layers(layer)]
    return found
