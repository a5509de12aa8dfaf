"""A phase trains the BN that it plans to train, whatever `training=` the graph has elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

import keras_bnguard as bng
from tests.stack import keras

layers = keras.layers


def base():
    inputs = keras.Input((8,))
    hidden = layers.Dense(8)(inputs)
    return keras.Model(inputs, layers.BatchNormalization(name="bn")(hidden), name="base")


def on_a_base(inputs):
    return base()(inputs, training=False)


def after_a_layer_without_weights(inputs):
    return layers.Dropout(0.5)(inputs, training=False)


def with_head(before):
    inputs = keras.Input((8,))
    hidden = layers.BatchNormalization(name="head_bn")(layers.Dense(8)(before(inputs)))
    model = keras.Model(inputs, layers.Dense(2, name="out")(hidden))
    model.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
    return model


def statistics(layer):
    return np.concatenate([np.asarray(value) for value in layer.get_weights()[2:]])


@pytest.mark.parametrize("before", [on_a_base, after_a_layer_without_weights])
def test_a_training_false_before_the_head_does_not_stop_its_bn(before, recwarn):
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (32, 8)).astype("float32")
    model = with_head(before)
    head = model.get_layer("head_bn")
    seen = [statistics(head)]
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(statistics(head))
    )
    schedule = bng.PhaseScheduler(
        [
            bng.Phase("head", train=["head_bn", "out"], epochs=1, learning_rate=1e-3),
            bng.Phase("all", train="*", epochs=1, learning_rate=1e-4),
        ],
        verbose=0,
    )
    model.fit(x, rng.integers(0, 2, 32), epochs=2, verbose=0, callbacks=[keep, schedule])
    for one, next_ in zip(seen, seen[1:]):
        assert not np.array_equal(one, next_)
    assert not [w for w in recwarn if issubclass(w.category, bng.BNGuardWarning)]
