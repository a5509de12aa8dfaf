"""`PhaseScheduler.fine_tune(model)` finds the head of any model; so does a selector's error."""

from __future__ import annotations

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.errors import SelectorError
from tests.stack import keras

layers = keras.layers
SHAPE = (16, 16, 3)


def with_statistics(model):
    """The model, with other statistics than a new one has: those of a pretrained network."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if hasattr(layer, "moving_mean"):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def backbone():
    inputs = x = keras.Input(SHAPE)
    for i in range(3):
        x = layers.Conv2D(8, 3, strides=2, padding="same", name=f"conv{i}")(x)
        x = layers.ReLU()(layers.BatchNormalization(name=f"bn{i}")(x))
    outputs = layers.GlobalAveragePooling2D()(x)
    return with_statistics(keras.Model(inputs, outputs, name="pretrained"))


def functional():
    inputs = keras.Input(SHAPE)
    x = layers.BatchNormalization(name="new_norm")(backbone()(inputs))
    return keras.Model(inputs, layers.Dense(1, name="classes")(x))


def in_one_graph():
    base = backbone()
    return keras.Model(base.input, layers.Dense(1, name="predictions")(base.output))


def sequential():
    parts = [
        keras.Input(SHAPE),
        backbone(),
        layers.Dense(4, name="fc1"),
        layers.Dense(1, name="fc2"),
    ]
    return keras.Sequential(parts)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.base = backbone()
        self.classifier = layers.Dense(1, name="classifier")

    def call(self, x, training=None):
        return self.classifier(self.base(x, training=training))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, *SHAPE), "float32"))
    return model


HEADS = {
    functional: ["new_norm", "classes"],
    in_one_graph: ["predictions"],
    sequential: ["fc1", "fc2"],
    subclassed: ["classifier"],
}
each_model = pytest.mark.parametrize("make", HEADS, ids=lambda make: make.__name__)


@each_model
def test_its_first_phase_trains_the_head_and_nothing_else(make):
    model = make()
    model.compile("sgd", "mse")
    first, _ = bng.PhaseScheduler.fine_tune(model, head_epochs=1, base_lr=0.1).phases
    assert list(first.train) == HEADS[make]
    scheduler = bng.PhaseScheduler([first], verbose=0)
    before = [w.copy() for w in model.get_weights()]
    inside = {id(v) for path in HEADS[make] for v in model.get_layer(path).weights}
    x = np.random.default_rng(1).normal(size=(8, *SHAPE)).astype("float32")
    model.fit(x, x[:, 0, 0, :1], batch_size=4, epochs=1, verbose=0, callbacks=[scheduler])
    for variable, old, new in zip(model.weights, before, model.get_weights()):
        assert id(variable) in inside or np.array_equal(old, new)


@each_model
def test_a_selector_that_matches_nothing_is_answered_with_the_layers_of_the_head(make):
    model = make()
    scheduler = bng.PhaseScheduler([bng.Phase("first", train="head*", learning_rate=0.1)])
    with pytest.raises(SelectorError) as error:
        scheduler.plan(model)
    assert ", ".join(HEADS[make]) in str(error.value)
    assert "PhaseScheduler.fine_tune(model)" in str(error.value)
