"""`advise`: what it measures, what it says, and that nothing of the model is left changed."""

from __future__ import annotations

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.advice import decide
from keras_bnguard.engines.holds import open_patches
from keras_bnguard.engines.rehearsal import Rehearsal, live_norms
from keras_bnguard.inventory import take_inventory
from tests.models import (
    BN,
    adam,
    as_array,
    data,
    layers,
    optimizer_state,
    random_state,
    seed_states,
    statistics,
    transfer,
)
from tests.stack import keras


def trained(model=None, fit=True):
    """A model whose BN carry statistics of other data than `data()`."""
    keras.utils.set_random_seed(3)
    model = model or transfer()
    model.compile(adam(), "mse", metrics=["mae"])
    if fit:
        model.fit(*data(rows=24, seed=5), batch_size=8, epochs=1, verbose=0)
    else:
        for path, layer in take_inventory(model).layers:
            if path.endswith("bn"):
                width = as_array(layer.moving_mean).shape
                layer.moving_mean.assign(np.full(width, 0.5, "float32"))
    return model


def everything(model):
    metrics = [as_array(v).tobytes() for m in model.metrics for v in m.variables]
    weights = [np.asarray(w).tobytes() for w in model.get_weights()]
    return weights, optimizer_state(model), metrics, seed_states(model)


def quick(model, rows=None, **settings):
    settings = {"epochs": 1, "batch_size": 8, "cross": 2, "steps": 2, **settings}
    return bng.advise(model, data(rows=16) if rows is None else rows, **settings)


def test_every_bit_of_the_model_is_put_back_and_training_goes_on_as_if_nothing_had_been():
    ends = []
    for asked in (False, True):
        model = trained()
        step, optimizer, before = model.train_function, model.optimizer, everything(model)
        keras.utils.set_random_seed(11)
        if asked:
            quick(model)
            assert model.train_function is step
            assert model.optimizer is optimizer
            assert everything(model) == before
            assert open_patches() == 0
            assert "train_step" not in model.__dict__
        drawn = random_state()
        keras.utils.set_random_seed(12)
        model.fit(*data(rows=16), batch_size=8, epochs=1, verbose=0)
        ends.append((drawn, everything(model)))
    assert ends[0] == ends[1]


def test_a_model_that_never_took_a_step_ends_as_it_began():
    ends = []
    for asked in (False, True):
        model = trained(fit=False)
        flags = [layer.trainable for _, layer in take_inventory(model).layers]
        if asked:
            quick(model)
            assert flags == [layer.trainable for _, layer in take_inventory(model).layers]
            assert model.train_function is None
        keras.utils.set_random_seed(12)
        model.fit(*data(rows=16), batch_size=8, epochs=1, verbose=0)
        weights, slots, _, _ = everything(model)
        ends.append((weights, slots))
    assert ends[0] == ends[1]


def test_an_error_in_the_middle_puts_everything_back_too():
    model = trained()
    before = everything(model)

    def broken(y, outputs):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        quick(model, metric=broken)
    with pytest.raises(ZeroDivisionError), Rehearsal(take_inventory(model).engine, model) as kept:
        with kept.step("live", live_norms([model.get_layer("head_bn")])) as train:
            train(*data(rows=8))
            raise ZeroDivisionError
    assert everything(model) == before
    assert open_patches() == 0


def test_a_live_trial_moves_even_frozen_bn_and_a_held_one_none():
    model = transfer()
    model.get_layer("base").trainable = False
    model.compile(adam(), "mse")
    norm = model.get_layer("base").get_layer("bn")
    survey = take_inventory(model)
    start, affine = statistics(norm), as_array(norm.gamma)
    moved = {}
    with Rehearsal(survey.engine, model) as kept:
        for name, held in (("held", bng.hold_inference(model)), ("live", live_norms([norm]))):
            kept.rewind()
            with kept.step(name, held) as train:
                train(*data(rows=8))
                train(*data(rows=8))
            moved[name] = statistics(norm) != start
            assert np.array_equal(as_array(norm.gamma), affine)
    assert moved == {"held": False, "live": True}
    assert statistics(norm) == start


# -------------------------------------------------------------------- what it says
def blobs(rows, seed, shift):
    """Two classes that a plane parts; `shift` moves the domain across the plane."""
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=(rows, 6))
    labels = (unit[:, :3].sum(1) > 0).astype("float32")[:, None]
    return (unit + shift).astype("float32"), labels


def classifier():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    x = layers.Dense(12)(inputs)
    x = BN(name="bn0", momentum=0.8)(x)
    x = layers.ReLU()(x)
    x = layers.Dense(12)(x)
    x = BN(name="bn1", momentum=0.8)(x)
    x = layers.ReLU()(x)
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
    model.compile(adam(), "binary_crossentropy", metrics=["accuracy"])
    model.fit(*blobs(256, 0, 0.0), batch_size=32, epochs=6, verbose=0)
    model.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy", metrics=["accuracy"])
    return model


def test_on_a_shifted_domain_it_says_not_frozen_and_the_shift_is_in_the_table():
    model = classifier()
    advice = bng.advise(model, blobs(96, 1, 3.0), epochs=3, batch_size=16, cross=2, steps=6)
    assert advice.policy in ("recalibrated", "live")
    assert advice.difference
    assert advice.metric == "accuracy"
    assert advice.score("frozen").behind > 2 * advice.score("frozen").behind_error
    assert advice.score("recalibrated").untrained_score > advice.score("frozen").untrained_score
    text = str(advice)
    assert "recalibrated" in text
    assert "+-" in text
    assert "bng." in text or "live" in text


def test_on_data_like_the_old_one_it_says_no_difference_and_leaves_the_statistics():
    advice = bng.advise(
        classifier(), blobs(64, 2, 0.0), epochs=1, batch_size=16, cross=2, steps=3
    )
    assert not advice.difference
    assert advice.policy == "frozen"
    assert "no difference" in str(advice)
    assert 'bng.guard(model, hold="*")' in advice.code
