"""`advise`: what it measures and recommends, and that it leaves no change in the model."""

from __future__ import annotations

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard import Policy
from keras_bnguard.advice.code import code_for
from keras_bnguard.advice.decision import decide
from keras_bnguard.backends.patches.attribute_patches import open_patches
from keras_bnguard.backends.values.trial_training import ForcedTraining, TrialTraining
from keras_bnguard.model.snapshot import take_snapshot
from tests.builders.models import BN, adam, data, layers, transfer
from tests.builders.values import as_array, optimizer_state, random_state, seed_states, statistics
from tests.stack import keras


def trained(model=None, fit=True):
    """A model whose BN carry statistics of other data than `data()`."""
    keras.utils.set_random_seed(3)
    model = model or transfer()
    model.compile(adam(), "mse", metrics=["mae"])
    if fit:
        model.fit(*data(rows=24, seed=5), batch_size=8, epochs=1, verbose=0)
    else:
        for path, layer in take_snapshot(model).layers:
            if path.endswith("bn"):
                width = as_array(layer.moving_mean).shape
                layer.moving_mean.assign(np.full(width, 0.5, "float32"))
    return model


def everything(model):
    metrics = [as_array(v).tobytes() for m in model.metrics for v in m.variables]
    weights = [np.asarray(w).tobytes() for w in model.get_weights()]
    return weights, optimizer_state(model), metrics, seed_states(model)


def quick(model, rows=None, **settings):
    settings = {"epochs": 1, "batch_size": 8, "folds": 2, "steps": 2, "n_repeats": 1, **settings}
    return bng.advise(model, data(rows=16) if rows is None else rows, **settings)


def test_every_bit_of_the_model_is_restored_and_training_continues_as_without_advise():
    ends = []
    for advised in (False, True):
        model = trained()
        step, optimizer, before = model.train_function, model.optimizer, everything(model)
        keras.utils.set_random_seed(11)
        if advised:
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


def test_a_model_without_a_step_ends_as_it_started():
    ends = []
    for advised in (False, True):
        model = trained(fit=False)
        flags = [layer.trainable for _, layer in take_snapshot(model).layers]
        if advised:
            quick(model)
            assert flags == [layer.trainable for _, layer in take_snapshot(model).layers]
            assert model.train_function is None
        keras.utils.set_random_seed(12)
        model.fit(*data(rows=16), batch_size=8, epochs=1, verbose=0)
        weights, optimizer_variables, _, _ = everything(model)
        ends.append((weights, optimizer_variables))
    assert ends[0] == ends[1]


def test_after_an_error_everything_is_restored_too():
    model = trained()
    before = everything(model)
    with pytest.raises(bng.SettingError, match="one number a row"):
        quick(model, metric=lambda y, outputs: 1.0)
    trial = TrialTraining(take_snapshot(model).backend, model)
    training_mode = ForcedTraining([model.get_layer("head_bn")])

    def fail_after_a_step():
        with trial, trial.step("training mode", training_mode) as train:
            train(*data(rows=8))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_a_step()
    assert everything(model) == before
    assert open_patches() == 0


def test_a_trial_in_training_mode_updates_frozen_bn_and_one_in_inference_mode_updates_none():
    model = transfer()
    model.get_layer("base").trainable = False
    model.compile(adam(), "mse")
    norm = model.get_layer("base").get_layer("bn")
    snapshot = take_snapshot(model)
    start, affine = statistics(norm), as_array(norm.gamma)
    changed = {}
    with TrialTraining(snapshot.backend, model) as trial:
        for name, mode in (
            ("inference mode", bng.force_inference(model, "*")),
            ("training mode", ForcedTraining([norm])),
        ):
            trial.rewind()
            with trial.step(name, mode) as train:
                train(*data(rows=8))
                train(*data(rows=8))
            changed[name] = statistics(norm) != start
            assert np.array_equal(as_array(norm.gamma), affine)
    assert changed == {"inference mode": False, "training mode": True}
    assert statistics(norm) == start


# -------------------------------------------------------------------- the recommendation
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


def test_on_a_shifted_domain_frozen_is_not_recommended_and_the_table_shows_the_shift():
    model = classifier()
    advice = bng.advise(
        model, blobs(96, 1, 3.0), epochs=3, batch_size=16, folds=2, n_repeats=1, steps=6
    )
    assert advice.policy in (Policy.RECALIBRATED, Policy.TRAINABLE)
    assert advice.difference
    assert advice.metric == "accuracy"
    assert advice.score(Policy.FROZEN).behind > 2 * advice.score(Policy.FROZEN).behind_error
    assert (
        advice.score(Policy.RECALIBRATED).untrained_score
        > advice.score(Policy.FROZEN).untrained_score
    )
    text = str(advice)
    assert "recalibrated" in text
    assert "+-" in text
    assert "bng." in text or "trainable" in text


def test_where_nothing_differs_frozen_is_recommended():
    model = classifier()
    for name in ("bn0", "bn1"):
        model.get_layer(name).momentum = 0.9999
    model.compile(keras.optimizers.SGD(1e-6), "binary_crossentropy")
    advice = bng.advise(
        model, blobs(64, 2, 0.0), epochs=1, batch_size=16, folds=2, n_repeats=1, steps=2,
        layers=lambda layer: layer.name == "bn1", metric=lambda y, outputs: np.ones(len(y)),
    )  # fmt: skip
    assert advice.policy is Policy.FROZEN
    assert advice.layers == ("bn1",)
    assert "bn1" in advice.code


# ------------------------------------------------------------------- the decision
RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 0.01, 100)


def rows(frozen, recalibrated, trainable):
    found = zip(Policy, (frozen, recalibrated, trainable))
    return {policy: value + np.roll(NOISE, i) for i, (policy, value) in enumerate(found)}


def test_a_significantly_better_score_wins():
    decision = decide(rows(0.5, 0.9, 0.6), rows(1, 1, 1))
    assert decision[:2] == (Policy.RECALIBRATED, True)


def test_among_equal_scores_the_lower_loss_wins():
    decision = decide(rows(0.9, 0.9, 0.9), rows(1.0, 1.0, 0.5))
    assert decision[:2] == (Policy.TRAINABLE, True)


def test_without_a_difference_the_policy_is_frozen():
    same = np.ones(50)
    decision = decide(*[dict.fromkeys(Policy, same)] * 2)
    assert decision[:3] == (Policy.FROZEN, False, False)


def test_a_lead_within_noise_is_unsure_and_a_smaller_one_is_no_difference():
    score = np.zeros(100)
    score[:2] = 1.0
    scores = dict(zip(Policy, (np.zeros(100), score, np.zeros(100))))
    losses = dict.fromkeys(scores, np.ones(100))
    decision = decide(scores, losses)
    assert decision[:3] == (Policy.RECALIBRATED, False, True)
    assert "0.020 +- 0.014" in decision.reason
    score[50:] = np.tile([1.0, -1.0], 25)
    decision = decide(scores, losses)
    assert decision[:3] == (Policy.RECALIBRATED, False, False)


def test_scores_no_more_than_one_row_apart_are_left_to_the_loss():
    one, two = np.zeros(100), np.zeros(100)
    one[0], two[:2] = 1.0, 1.0
    scores = dict(zip(Policy, (two, one, np.zeros(100))))
    losses = rows(1.0, 0.5, 0.2)
    assert decide(scores, losses, tolerance=0.0).policy is Policy.FROZEN
    assert decide(scores, losses, tolerance=0.01).policy is Policy.RECALIBRATED


def test_a_lower_loss_does_not_beat_a_clearly_better_score():
    assert decide(rows(0.9, 0.5, 0.5), rows(1.0, 0.2, 0.2), tolerance=0.01).policy is Policy.FROZEN


# ------------------------------------------------------------------------ bad input
def test_bad_input_gets_one_clear_error():
    model = trained()
    with pytest.raises(bng.SettingError, match="at least 1"):
        quick(model, epochs=0)
    with pytest.raises(bng.SettingError, match=r"folds=1.*at least 2"):
        quick(model, folds=1)
    with pytest.raises(bng.DataError, match="labels"):
        quick(model, rows=data()[0])
    with pytest.raises(bng.DataError, match="too few"):
        quick(model, rows=data(rows=5))
    with pytest.raises(bng.SelectorError):
        quick(model, layers="nothing")
    fresh = transfer()
    with pytest.raises(bng.SettingError, match="compiled"):
        quick(fresh)
    fresh.compile("sgd", "mse")
    with pytest.raises(bng.SettingError, match="trained statistics"):
        quick(fresh)


def test_the_code_to_paste_names_the_layers_and_runs():
    model = trained()
    for policy, expected in (
        (Policy.FROZEN, ['bng.force_inference(model, layers="*")']),
        (Policy.RECALIBRATED, ['bng.recalibrate(model, x, layers="*")', "bng.force_inference("]),
        (Policy.TRAINABLE, ["model.fit("]),
    ):
        snapshot = take_snapshot(model)
        code = code_for(snapshot, [n.path for n in snapshot.inventory.norms], policy)
        assert all(part in code for part in expected)
        compile(code, "code", "exec")
    model.get_layer("base").trainable = False
    snapshot = take_snapshot(model)
    assert "trainable = True" in code_for(snapshot, ["base/bn"], Policy.TRAINABLE)
    assert 'layers="base/*"' in code_for(snapshot, ["base/bn"], Policy.FROZEN)
