"""Real digits, and small models whose BN have trained statistics."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tests.builders import models
from tests.stack import keras

layers = keras.layers


@lru_cache(maxsize=1)
def digits():
    """1797 images (8, 8, 1) from 0 to 1, shuffled, and their labels."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = np.random.default_rng(0).permutation(len(raw.target))
    return (raw.images[order, ..., None] / 16.0).astype("float32"), raw.target[order]


def flat(rows=320):
    x, y = digits()
    return x[:rows].reshape(rows, 64), y[:rows]


def dense(momentum=0.5, rescale=None, dropout=0.0, width=64, classes=10):
    """Two Dense layers with BN, `bn1` and `bn2`, in a model that takes rows of numbers."""
    x = inputs = keras.Input((width,))
    if rescale is not None:
        x = layers.Rescaling(rescale, name="rescaling")(x)
    for i in (1, 2):
        x = layers.Dense(24, name=f"dense{i}")(x)
        x = layers.BatchNormalization(momentum=momentum, name=f"bn{i}")(x)
        x = layers.ReLU(name=f"relu{i}")(x)
    if dropout:
        x = layers.Dropout(dropout, seed=1)(x)
    outputs = layers.Dense(classes, activation="softmax", name="out")(x)
    return keras.Model(inputs, outputs, name="net")


def compiled(model, learning_rate=0.01, metrics=True):
    """The model, compiled as a classifier of integer labels."""
    return models.compiled(
        model,
        keras.optimizers.Adam(learning_rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"] if metrics else [],
    )


def on_top(base, classes=10):
    """A trained base, as one layer, under a new head."""
    head = [layers.Dense(classes, activation="softmax", name="head")]
    return compiled(models.with_head(base, head, name="transfer"))


def trained_base(rescale=None, scale=1.0):
    """A base called `base` with BN `bn1` and `bn2` that fit the digits."""
    model = compiled(dense(rescale=rescale))
    x, y = flat(640)
    model.fit(x * scale, y, batch_size=64, epochs=3, verbose=0)
    base = keras.Model(model.inputs, model.get_layer("relu2").output, name="base")
    return base
