"""Legacy optimizers make their variables when a property is read first: we never read one."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard import auto
from tests.builders.values import same
from tests.stack import IS_KERAS3, STACK, keras

pytestmark = pytest.mark.skipif(IS_KERAS3, reason="legacy optimizers are of Keras 2")

X = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
Y = X[:, :1].copy()


def addons(make):
    def made():
        return make(importlib.import_module("tensorflow_addons").optimizers)

    return made


def adam():
    return keras.optimizers.legacy.Adam(0.01)


OPTIMIZERS = {
    "adam": adam,
    "schedule": lambda: keras.optimizers.legacy.SGD(
        keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9), momentum=0.9
    ),
    "loss scale": lambda: keras.mixed_precision.LossScaleOptimizer(adam()),
}
if STACK == "k2":
    OPTIMIZERS["lookahead"] = addons(lambda found: found.Lookahead(adam()))
    OPTIMIZERS["averages"] = addons(lambda found: found.SWA(adam()))
    OPTIMIZERS["weight decay"] = addons(lambda found: found.AdamW(1e-4, 0.01))


def fitted(model, optimizer):
    model.fit(X, Y, epochs=2, shuffle=False, verbose=0)


def stepped(model, optimizer):
    for _ in range(3):
        model.train_on_batch(X, Y)


def taped(model, optimizer):
    tensorflow = sys.modules["tensorflow"]

    @tensorflow.function
    def step():
        with tensorflow.GradientTape() as tape:
            loss = tensorflow.reduce_mean((model(X, training=True) - Y) ** 2)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))

    for _ in range(3):
        step()


WAYS = {"fit": fitted, "steps": stepped, "tape": taped}


def variables_of(optimizer):
    """Name, kind and value of everything an optimizer has made, in order."""
    found = list(optimizer.variables())
    inner = optimizer
    while inner is not None:
        found += [v for v in getattr(inner, "_hyper", {}).values() if hasattr(v, "assign")]
        inner = vars(inner).get("_optimizer")
    return [(v.name, type(v)) for v in found], [v.numpy() for v in found]


def trained(optimizer_name, way, watch):
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.layers.Dense(4, input_shape=(4,)), keras.layers.BatchNormalization()]
    )
    model.add(keras.layers.Dense(1))
    optimizer = OPTIMIZERS[optimizer_name]()
    model.compile(optimizer, "mse")
    if watch:
        before = len(auto.internal_errors())
        bng.enable_warnings()
        bng.audit(model)
    WAYS[way](model, optimizer)
    if watch:
        bng.disable_warnings()
        assert auto.internal_errors()[before:] == []
        assert [report.findings for report in auto.reports()] == [()]
        assert auto.reports()[0].steps > 0
    return *variables_of(optimizer), model.get_weights()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.filterwarnings("ignore")
def test_the_variables_of_an_optimizer_are_those_of_a_run_without_us(name, way):
    made, values, weights = trained(name, way, watch=True)
    made_without, values_without, weights_without = trained(name, way, watch=False)
    assert made == made_without
    assert same(values, values_without)
    assert same(weights, weights_without)
