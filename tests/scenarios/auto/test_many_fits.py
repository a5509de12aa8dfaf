"""A program of many short fits: its data are checked where something is new."""

import gc

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard import auto
from keras_bnguard.data import measure
from keras_bnguard.records import OutcomeStatus
from tests.stack import keras

layers = keras.layers
RNG = np.random.default_rng(1)
X = RNG.normal(size=(64, 4)).astype("float32")
Y = X[:, :1].copy()


def model_with_statistics():
    norm = layers.BatchNormalization(name="bn")
    model = keras.Sequential([layers.Input((4,)), norm, layers.Dense(1)])
    norm.set_weights([np.full(4, value, "float32") for value in (1.1, 0.1, 0.05, 1.05)])
    norm.trainable = False
    model.compile("sgd", "mse")
    return model


@pytest.fixture
def checks(monkeypatch):
    """Enables warnings; gets one entry each time that a model is run on the data of its `fit`."""
    found = []
    original = measure.measure_norm_inputs

    def counted(*arguments):
        found.append(len(auto.reports()) + 1)
        return original(*arguments)

    monkeypatch.setattr(measure, "measure_norm_inputs", counted)
    bng.enable_warnings()
    yield found
    bng.disable_warnings()


def outcome(report, code):
    return next(each for each in report.outcomes if each.code == code)


def test_the_model_is_run_on_the_same_data_in_fits_that_are_powers_of_two(checks):
    model = model_with_statistics()
    for _ in range(9):
        model.fit(X, Y, verbose=0)
    assert checks == [1, 2, 4, 8]
    first, third = auto.reports()[0], auto.reports()[2]
    assert outcome(first, "BNG501").status is OutcomeStatus.PASSED
    skipped = outcome(third, "BNG501")
    assert skipped.status is OutcomeStatus.SKIPPED
    assert "in a fit before" in skipped.reason


@pytest.mark.filterwarnings("ignore::keras_bnguard.BNGuardWarning")
def test_data_in_another_scale_are_found_in_whichever_fit_they_come(checks):
    model = model_with_statistics()
    for scale in (1.0, 1.0, 255.0, 1.0, 1.0):
        model.fit(X * np.float32(scale), Y, verbose=0)
    found = [[f.code for f in report.findings] for report in auto.reports()]
    assert "BNG501" in found[2]
    assert all("BNG501" not in found[i] for i in (0, 1, 3, 4))


def test_a_model_of_another_fold_is_checked_from_its_first_fit_on(checks):
    for _ in range(3):
        model_with_statistics().fit(X, Y, verbose=0)
    assert checks == [1, 2, 3]
    gc.collect()
