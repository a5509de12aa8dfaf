"""Every kind of data, given to every function that takes data."""

from __future__ import annotations

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders.containers import CONTAINERS, X, Y
from tests.builders.models import BN, layers
from tests.stack import keras


class Table:
    """A table or column of pandas, which the environments of the tests do not have."""

    def __init__(self, values):
        self._values, self.shape = values, values.shape

    def to_numpy(self):
        return self._values


DataFrame, Series = type("DataFrame", (Table,), {}), type("Series", (Table,), {})
DATA = {
    **{name: make for name, make in CONTAINERS.items() if name != "generator"},
    "table": lambda: (DataFrame(X), Series(Y[:, 0])),
    "tuple with weights": lambda: (X, Y, np.ones(len(X), "float32")),
    "dict": lambda: ({"rows": X}, Y),
    "list of dicts": lambda: [({"rows": X[:28]}, Y[:28]), ({"rows": X[28:]}, Y[28:])],
}


def net(takes_dict):
    inputs = keras.Input((6,), name="rows")
    x = layers.Activation("relu")(BN(name="bn", momentum=0.5)(layers.Dense(4)(inputs)))
    taken = {"rows": inputs} if takes_dict else inputs
    model = keras.Model(taken, layers.Dense(1, activation="sigmoid")(x))
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    model.fit({"rows": X} if takes_dict else X, Y, batch_size=8, verbose=0)
    return model


@pytest.mark.parametrize("kind", DATA)
def test_every_function_reads_it(kind):
    model = net(takes_dict="dict" in kind)
    assert set(bng.recalibrate(model, DATA[kind]()).values.values()) == {56.0}
    assert bng.mode_gap(model, DATA[kind]()).rows == 56
    advice = bng.advise(model, DATA[kind](), folds=2, n_repeats=1, steps=1, epochs=1)
    assert advice.rows == 56
    skipped = {outcome.code for outcome in bng.audit(model, DATA[kind]()).skipped}
    assert "BNG501" not in skipped
    model.trainable = False
    assert bng.precompute_features(model, DATA[kind]()).x.shape == (56, 1)


def test_batches_of_several_lengths_are_read_where_the_model_takes_them():
    inputs = keras.Input((None, 2))
    x = BN(name="bn", momentum=0.5)(layers.Conv1D(3, 3, padding="same")(inputs))
    model = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(x)))
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    batches = [
        (rng.normal(size=(8, length, 2)).astype("float32"), np.ones((8, 1), "float32"))
        for length in (4, 6)
    ]
    model.fit((batch for batch in batches), steps_per_epoch=2, shuffle=False, verbose=0)
    assert bng.recalibrate(model, batches).values == {"bn": 80.0}
    assert bng.mode_gap(model, batches).rows == 16
    assert "BNG501" not in {outcome.code for outcome in bng.audit(model, batches).skipped}
    with pytest.raises(bng.DataError, match="batches of several shapes"):
        bng.advise(model, batches, folds=2)
