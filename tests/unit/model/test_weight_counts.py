"""How many weights train, by the flags that count on this Keras."""

from __future__ import annotations

import numpy as np

import keras_bnguard as bng
from tests.builders.models import backbone, transfer
from tests.stack import IS_KERAS3, keras

# backbone: Dense 4 -> 5 and its BN; head: Dense 5 -> 3, its BN, Dense 3 -> 1.
BASE, BASE_BN, HEAD, HEAD_BN = 25 + 10, 10, 18 + 6 + 4, 6


def counts(model):
    found = bng.audit(model).weights
    return (found.trainable, found.total, found.norm_trainable, found.norm_total)


def test_moving_statistics_are_not_counted():
    assert counts(transfer()) == (BASE + HEAD, BASE + HEAD, BASE_BN + HEAD_BN, BASE_BN + HEAD_BN)


def test_freezing_changes_what_trains_and_not_the_total():
    model = transfer()
    model.get_layer("base").trainable = False
    assert counts(model) == (HEAD, BASE + HEAD, HEAD_BN, BASE_BN + HEAD_BN)


def test_a_flag_changed_after_compile_counts_only_where_it_is_obeyed():
    model = transfer()
    model.compile("sgd", "mse")
    model.get_layer("base").trainable = False
    trains = HEAD if IS_KERAS3 else BASE + HEAD
    assert counts(model)[0] == trains


def test_a_trainable_bn_below_a_frozen_base_trains_on_keras_3_only():
    model = transfer()
    model.get_layer("base").trainable = False
    model.get_layer("base").get_layer("bn").trainable = True
    assert counts(model)[0] == (HEAD + BASE_BN if IS_KERAS3 else HEAD)


def test_a_shared_layer_counts_once_and_is_open_if_one_way_to_it_is():
    base = backbone()
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Add()([base(inputs), base(inputs)]))
    assert counts(model)[1] == BASE


def test_a_report_of_a_run_has_the_counts_too():
    model = transfer()
    model.get_layer("base").trainable = False
    model.compile("sgd", "mse")
    x = np.ones((8, 4), "float32")
    guard = bng.BNGuard(on_finding="log")
    model.fit(x, x[:, :1], verbose=0, callbacks=[guard])
    assert f"training in fit: {HEAD} of {BASE + HEAD} weights" in str(guard.report)
