"""A run with `data=` ends bit for bit as the same run without it, whatever the data."""

from __future__ import annotations

import random

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders.containers import CONTAINERS, X, Y, fit
from tests.builders.models import BN, layers
from tests.builders.values import optimizer_state, random_state, seed_states
from tests.conftest import SEED
from tests.stack import keras


def net(width=6):
    """BN with trained statistics, frozen and trainable, and Dropout with a seed state."""
    inputs = keras.Input((width,))
    x = layers.Dense(5, name="dense", activity_regularizer="l2")(inputs)
    x = BN(name="bn", momentum=0.5)(x)
    x = layers.Dropout(0.5, name="drop")(x)
    frozen = BN(name="frozen")
    frozen.trainable = False
    x = frozen(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="out")(x), name="net")


def run(make_model, make_data, guard, epochs=1):
    keras.backend.clear_session()
    keras.utils.set_random_seed(SEED)
    random.seed(SEED)
    model = make_model()
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    data = make_data()
    callbacks = [guard(data)] if guard else []
    history = fit(model, data, epochs=epochs, callbacks=callbacks).history
    history.pop("bn_drift", None)
    found = {
        "weights": [np.asarray(w).tobytes() for w in model.get_weights()],
        "optimizer": optimizer_state(model),
        "history": {k: [float(v).hex() for v in values] for k, values in history.items()},
        "seeds": seed_states(model),
        "random": random_state(),
    }
    return found, callbacks


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(f, marks=pytest.mark.slow) if f in ("list", "function") else f
        for f in CONTAINERS
    ],
)
def test_fit_ends_as_without_data(name):
    epochs = 1 if name in ("generator", "function", "list") else 2
    plain, _ = run(net, CONTAINERS[name], None, epochs)
    guarded, (guard,) = run(
        net, CONTAINERS[name], lambda data: bng.BNGuard(data=data, on_finding="log"), epochs
    )
    for part in plain:
        assert guarded[part] == plain[part], part
    assert not guard.report.notes
    skipped = {o.code: o.reason for o in guard.report.skipped}
    if name == "generator":
        assert "can be read only once" in skipped["BNG501"]
    else:
        assert "BNG501" not in skipped, skipped


@pytest.mark.parametrize("kind", ["dict", pytest.param("list", marks=pytest.mark.slow)])
def test_several_inputs_are_read_as_the_model_takes_them(kind):
    def make():
        inputs = {"a": keras.Input((6,), name="a"), "b": keras.Input((3,), name="b")}
        both = layers.Concatenate()([BN(name="one")(inputs["a"]), BN(name="two")(inputs["b"])])
        taken = inputs if kind == "dict" else list(inputs.values())
        return keras.Model(taken, layers.Dense(1, activation="sigmoid")(both), name="two")

    def make_data():
        parts = {"a": X, "b": X[:, :3] * 100}
        return (parts if kind == "dict" else list(parts.values())), Y

    plain, _ = run(make, make_data, None)
    guarded, (guard,) = run(make, make_data, lambda data: bng.BNGuard(data=data, on_finding="log"))
    for part in plain:
        assert guarded[part] == plain[part], part
    assert "BNG501" not in {o.code for o in guard.report.skipped}


class Busy(keras.Model):
    """Its BN is wired to training mode and its `call` counts: both assign when it is called."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.bn = BN(name="bn")
        self.out = layers.Dense(1)
        self.count = self.add_weight(
            name="count", shape=(), initializer="zeros", trainable=False, dtype="float32"
        )

    def call(self, x, training=None):
        self.count.assign(self.count + 1.0)
        return self.out(self.bn(x, training=True))


def test_audit_with_data_restores_what_a_call_assigns():
    model = Busy(name="busy")
    model.compile("sgd", "mse", metrics=["mae"])
    model.fit(X, Y, batch_size=8, verbose=0)
    before = [np.asarray(w).tobytes() for w in model.get_weights()]
    metrics = [np.asarray(keras_value(v)).tobytes() for m in model.metrics for v in m.variables]
    draws = np.random.get_state()[1].tolist()
    report = bng.audit(model, (X, Y))
    assert [np.asarray(w).tobytes() for w in model.get_weights()] == before
    after = [np.asarray(keras_value(v)).tobytes() for m in model.metrics for v in m.variables]
    assert after == metrics
    assert np.random.get_state()[1].tolist() == draws
    assert "BNG507" in report.codes


def keras_value(variable):
    value = variable.numpy() if hasattr(variable, "numpy") else variable
    return value.detach() if hasattr(value, "detach") else value


def test_data_that_cannot_be_read_is_one_clear_error():
    model = net()
    with pytest.raises(bng.DataError, match="cannot read batches from int"):
        bng.audit(model, 3)
    with pytest.raises(bng.DataError, match="Pass arrays"):
        bng.BNGuard(data=3)
