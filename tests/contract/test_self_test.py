"""What the self-test measures is what `fit` and `predict` of the Keras in hand do."""

from __future__ import annotations

import numpy as np

from tests.builders.models import BN, backbone, compiled, data, layers, transfer
from tests.builders.values import as_array, statistics
from tests.contract.models import BACKEND_OF, fit
from tests.stack import keras


def updates(model, layer, **settings):
    """Whether a real `fit` updates the statistics of a trainable built-in BN."""
    before = statistics(layer)
    fit(compiled(model), **settings)
    return statistics(layer) != before


def test_behaviour_graph_false_is_what_fit_shows():
    model = transfer(training=False)
    honoured = not updates(model, model.get_layer("base").get_layer("bn"))
    assert BACKEND_OF.stack.behaviour.graph_false_honoured is honoured


def test_behaviour_a_leak_in_a_graph_is_what_fit_shows():
    model = transfer(training=False)
    updated = updates(model, model.get_layer("head_bn"))
    assert BACKEND_OF.stack.behaviour.false_leaks_in_graph is not updated


def test_behaviour_graph_true_is_what_predict_shows():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, BN(name="bn")(inputs, training=True))
    x, _ = data(16)
    by_batch = abs(float(np.mean(model.predict(x, batch_size=16, verbose=0)))) < 0.1
    assert BACKEND_OF.stack.behaviour.graph_true_at_inference is by_batch


def test_behaviour_a_leak_in_a_call_is_what_fit_shows():
    class Pair(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = BN(name="one"), BN(name="two")
            self.out = layers.Dense(1)

        def call(self, x):
            return self.out(self.two(self.one(x, training=False)))

    model = Pair()
    model(data(4)[0])
    updated = updates(model, model.two)
    assert BACKEND_OF.stack.behaviour.false_leaks_in_call is not updated


def test_behaviour_a_default_of_true_is_what_a_plain_call_shows():
    class TrainingDefault(layers.Layer):
        def call(self, x, training=True):
            return x

    inputs = keras.Input((4,))
    model = keras.Model(inputs, BN(name="after")(TrainingDefault()(inputs)))
    by_batch = abs(float(np.mean(as_array(model(data(16)[0]))))) < 0.1
    assert BACKEND_OF.stack.behaviour.default_leaks is by_batch


def test_behaviour_of_the_setter_is_what_a_container_shows():
    base = backbone()
    base.get_layer("bn").trainable = False
    base.trainable = True
    skipped = not base.get_layer("bn").trainable
    assert BACKEND_OF.stack.behaviour.setter_skips_equal is skipped
