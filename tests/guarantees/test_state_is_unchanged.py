"""Whatever runs a model only to measure leaves everything as it was that a call can change."""

from __future__ import annotations

import random

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders.every_state import ROWS, Counts, series, state_of, stateful
from tests.builders.models import BN, layers
from tests.conftest import SEED
from tests.stack import BACKEND, IS_KERAS3, keras


def trained():
    model = stateful()
    if BACKEND == "torch":  # Keras 3.15 cannot train stateful recurrent layers here.
        model.predict(series()[0], batch_size=ROWS, verbose=0)
    else:
        model.fit(*series(), batch_size=ROWS, shuffle=False, verbose=0)
    return model


def draws():
    return random.getstate(), np.random.get_state()[1].tolist()


def audit(model, data):
    report = bng.audit(model, data)
    reasons = [o.reason for o in report.skipped]
    assert not [r for r in reasons if "did not run" in r or "could not" in r], reasons


def advise(model, data):
    bng.advise(model, data, batch_size=ROWS, folds=2, n_repeats=1, steps=2, epochs=1)


MEASURING = {
    "audit": audit,
    "mode_gap": lambda model, data: bng.mode_gap(model, data, batch_size=ROWS),
    "recalibrate": lambda model, data: bng.recalibrate(model, data, batch_size=ROWS),
    "recalibrate sequential": lambda model, data: bng.recalibrate(
        model, data, batch_size=ROWS, mode="sequential"
    ),
}


@pytest.mark.parametrize("name", MEASURING)
def test_what_measures_leaves_every_state(name):
    model = trained()
    moving = "moving_" if name.startswith("recalibrate") else "no such name"
    before, drawn = state_of(model, without=moving), draws()
    assert sum(map(len, before.values())) >= 15, list(before)
    MEASURING[name](model, series())
    assert state_of(model, without=moving) == before
    assert draws() == drawn


def test_precompute_features_leaves_every_state():
    inputs = keras.Input(batch_shape=(ROWS, 3), name="rows")
    x = Counts(name="counts")(BN(name="bn")(inputs))
    model = keras.Model(inputs, layers.Dropout(0.2)(x))
    model.trainable = False
    before = state_of(model)
    bng.precompute_features(model, series()[0][:, :, 0], batch_size=ROWS, inference_only=True)
    assert state_of(model) == before


def test_advise_leaves_every_state():
    inputs = keras.Input((3,))
    x = BN(momentum=0.5, name="bn")(layers.Dense(3)(inputs))
    model = keras.Model(inputs, layers.Dense(1)(Counts(name="counts")(x)))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    x, y = series()
    model.fit(x[:, :, 0], y, batch_size=ROWS, verbose=0)
    before = state_of(model, without="no such name")
    advise(model, (x[:, :, 0], y))
    assert state_of(model, without="no such name") == before


def fits(guard):
    keras.backend.clear_session()
    keras.utils.set_random_seed(SEED)
    random.seed(SEED)
    model = stateful()
    found = []
    for _ in range(2):
        callbacks = [guard()] if guard else []
        history = model.fit(
            *series(), batch_size=ROWS, shuffle=False, verbose=0, callbacks=callbacks
        ).history
        history.pop("bn_drift", None)
        found.append({k: [float(v).hex() for v in vs] for k, vs in history.items()})
    values = [np.asarray(w).tobytes() for w in model.get_weights()]
    return found, values, sorted(state_of(model).values())


@pytest.mark.skipif(BACKEND == "torch", reason="Keras 3.15 cannot train these layers here")
def test_training_ends_as_without_a_guard_that_samples_data():
    plain = fits(None)
    guarded = fits(lambda: bng.BNGuard(data=series(), on_finding="log"))
    assert guarded == plain


class Consumes(layers.Layer):
    """Its call takes the next number of an iterator, which cannot be put back."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.numbers = iter([1.0] * 1000)

    def call(self, x):
        return x * next(self.numbers)

    def compute_output_shape(self, shape):
        return shape


def test_a_state_that_cannot_be_restored_is_a_reason_to_skip():
    inputs = keras.Input((3,))
    outputs = layers.Dense(1)(Consumes(name="consumes")(BN(name="bn")(inputs)))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    x, y = series()
    taken = len(list(model.get_layer("consumes").numbers))
    model.get_layer("consumes").numbers = iter([1.0] * taken)
    report = bng.audit(model, (x[:, :, 0], y))
    skipped = {outcome.code: outcome.reason for outcome in report.skipped}
    assert "Consumes.numbers is an iterator" in skipped["BNG501"]
    assert len(list(model.get_layer("consumes").numbers)) == taken
    with pytest.raises(bng.UnsupportedModelError, match=r"Consumes\.numbers"):
        bng.recalibrate(model, x[:, :, 0])


@pytest.mark.skipif(not IS_KERAS3, reason="Keras 3 alone has the layer")
def test_vectors_of_a_spectral_normalization_are_restored():
    inputs = keras.Input((3,))
    x = layers.SpectralNormalization(layers.Dense(4))(inputs, training=True)
    model = keras.Model(inputs, layers.Dense(1)(BN(name="bn")(x)))
    model.compile("sgd", "mse")
    x, y = series()
    before = state_of(model, without="no such name")
    bng.mode_gap(model, (x[:, :, 0], y))
    bng.audit(model, (x[:, :, 0], y))
    assert state_of(model, without="no such name") == before
