"""Correct programs beside BNG408: statistics that change outside `fit` on purpose, or not."""

from __future__ import annotations

from typing import Any, Callable, Dict

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders.outside_training import findings_of, network, other_rows, passes
from tests.builders.pipelines import L, compiled, rows
from tests.scenarios.faults.test_loops_in_inference_mode import LOOP
from tests.stack import keras

PROGRAMS: Dict[str, Callable[[Any], None]] = {}


def program(function: Callable[[Any], None]) -> Callable[[Any], None]:
    PROGRAMS[function.__name__] = function
    return function


@program
def calls_in_inference_mode(model: Any) -> None:
    passes(model, training=False)
    model(other_rows())
    model.predict(other_rows(), verbose=0)


@program
def forced_inference(model: Any) -> None:
    with bng.force_inference(model, layers="*"):
        passes(model)


@program
def weights_set_back(model: Any) -> None:
    before = model.get_weights()
    passes(model)
    model.set_weights(before)


@program
def statistics_assigned_back(model: Any) -> None:
    bn = model.get_layer("bn")
    mean, variance = np.array(bn.get_weights()[2]), np.array(bn.get_weights()[3])
    passes(model)
    bn.moving_mean.assign(mean)
    bn.moving_variance.assign(variance)


@program
def averaged_weights_and_new_statistics(model: Any) -> None:
    """As a hand-written average of weights ends: new weights, then passes for their statistics."""
    model.set_weights([value * 1.1 for value in model.get_weights()])
    passes(model)


@program
def weights_set(model: Any) -> None:
    model.set_weights([value * 1.1 for value in model.get_weights()])


@program
def statistics_assigned(model: Any) -> None:
    bn = model.get_layer("bn")
    bn.moving_mean.assign(np.array(bn.get_weights()[2]) + 3.0)


@program
def recalibrated(model: Any) -> None:
    bng.recalibrate(model, other_rows())


@program
def measured(model: Any) -> None:
    bng.mode_gap(model, rows(64))
    bng.audit(model, rows(64))


@program
def a_loop_after_it(model: Any) -> None:
    LOOP(model, *rows(32), training=True)


@program
def batches_after_it(model: Any) -> None:
    for _ in range(3):
        model.train_on_batch(*rows(16))


@program
def steps_by_hand(model: Any) -> None:
    """A rule of one's own moves the weights."""
    kernel = model.layers[0].kernel
    for _ in range(3):
        passes(model, 1)
        kernel.assign(np.array(model.layers[0].get_weights()[0]) * 0.99)


@program
def another_model_trains_the_layers(model: Any) -> None:
    other = compiled(keras.Sequential([keras.Input((8,)), *model.layers[:2], L.Dense(1)]))
    other.fit(*rows(64), verbose=0)


@program
def frozen(model: Any) -> None:
    model.get_layer("bn").trainable = False
    passes(model)


@program
def one_pass_over_its_own_rows(model: Any) -> None:
    model(rows(64)[0], training=True)


@program
def fit_again(model: Any) -> None:
    model.fit(*rows(64), verbose=0)
    model.evaluate(*rows(64), verbose=0)


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_correct_program_is_silent(name: str) -> None:
    assert "BNG408" not in findings_of(PROGRAMS[name])


def test_passes_before_the_first_fit_are_silent() -> None:
    model = network()
    passes(model)
    assert "BNG408" not in findings_of(lambda model: None, model)


def test_weights_loaded_after_the_passes_are_silent(tmp_path: Any) -> None:
    def load(model: Any) -> None:
        file = str(tmp_path / "kept.weights.h5")
        model.save_weights(file)
        passes(model)
        model.load_weights(file)

    assert "BNG408" not in findings_of(load)
