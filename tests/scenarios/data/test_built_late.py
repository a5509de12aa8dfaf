"""A model that its first step builds: the data rules are evaluated again after it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders.data_models import compiled, dense, flat, layers
from tests.builders.harness import fit
from tests.stack import keras

DATA_RULES = ("BNG301", "BNG407", "BNG5")


def base():
    model = dense()
    return keras.Model(model.inputs, model.get_layer("relu2").output, name="base")


@lru_cache(maxsize=1)
def weights():
    """Of a base whose BN fit the digits."""
    keras.utils.set_random_seed(2)
    model = base()
    bng.recalibrate(model, flat(128)[0])
    return model.get_weights()


class Unbuilt(keras.Model):
    """A frozen base that fits digits from 0 to 1, under a head that is not built yet."""

    def __init__(self):
        super().__init__()
        self.base = base()
        self.base.set_weights(weights())
        self.base.trainable = False
        self.head = layers.Dense(10, activation="softmax")

    def call(self, x, training=None):
        return self.head(self.base(x, training=training))


def started(scale=1.0, rows=128):
    weights()
    keras.utils.set_random_seed(2)
    model = compiled(Unbuilt())
    assert not model.built
    x, y = flat(rows)
    return model, scale * x, y


def test_the_wrong_scale_is_seen_at_the_end_of_the_first_epoch():
    model, x, y = started(255.0)
    run = fit(model, x, y, guard=bng.BNGuard(data=(x, y)), batch_size=32, epochs=2)
    assert run.layers("BNG501") == ["base/bn1"]
    assert len([m for m in run.messages if "BNG501" in m]) == 1


def test_arrays_of_fit_are_measured_late_too():
    model, x, y = started(255.0)
    bng.enable_warnings()
    try:
        with pytest.warns(bng.BNGuardWarning, match="BNG501"):
            model.fit(x, y, batch_size=32, verbose=0)
    finally:
        bng.disable_warnings()


def test_the_right_scale_is_silent_and_nothing_is_skipped():
    model, x, y = started()
    run = fit(model, x, y, guard=bng.BNGuard(data=(x, y)), batch_size=32, epochs=2)
    assert not [c for c in run.codes if c.startswith(DATA_RULES)]
    assert "BNG501" not in {o.code: o.reason for o in run.guard.report.skipped}


def test_measuring_late_changes_no_bit():
    ends = []
    for guards in ([], [bng.BNGuard(data=flat(128))]):
        model, x, y = started()
        history = model.fit(x, y, batch_size=32, epochs=2, verbose=0, callbacks=guards).history
        losses = [np.float64(v).tobytes() for v in history["loss"]]
        ends.append(([w.tobytes() for w in model.get_weights()], losses))
    assert ends[0] == ends[1]
