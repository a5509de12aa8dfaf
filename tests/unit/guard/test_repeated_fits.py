"""Which of many fits of a model are checked on their data."""

from dataclasses import replace

import numpy as np
import pytest

from keras_bnguard.data.batch import Batch
from keras_bnguard.data.sample import DataSample
from keras_bnguard.guard.repeated_fits import MAX_KINDS, RepeatedFits
from keras_bnguard.records import Provenance
from tests.builders.facts import inventory, norm

RNG = np.random.default_rng(0)
MODEL = inventory(norm("bn"))


def rows(n=64, scale=1.0, offset=0.0, shape=(8,), dtype="float32"):
    x = (RNG.normal(size=(n, *shape)) * scale + offset).astype(dtype)
    return DataSample("ndarray", [Batch(x)])


def due(repeated, data, model=MODEL, fits=1):
    return [repeated.is_due(model, data()) for _ in range(fits)]


def test_the_same_data_are_checked_in_fits_that_are_powers_of_two():
    found = due(RepeatedFits(), rows, fits=40)
    assert [i + 1 for i, each in enumerate(found) if each] == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    "other",
    [
        lambda: rows(scale=255.0),
        lambda: rows(scale=0.3),
        lambda: rows(offset=1.0),
        lambda: rows(dtype="float64"),
        lambda: rows(n=32),
        lambda: DataSample("ndarray", rows().batches, ordered=True),
        lambda: DataSample("ndarray", [Batch(rows().batches[0].x[:, ::-1] + np.arange(8))]),
    ],
    ids=["scale", "narrow", "offset", "dtype", "rows", "order", "channels"],
)
def test_other_data_are_checked_at_once(other):
    repeated = RepeatedFits()
    due(repeated, rows, fits=3)
    assert due(repeated, other) == [True]
    assert due(repeated, rows, fits=2) == [True, False], "the fourth and the fifth"


@pytest.mark.parametrize(
    "change",
    [
        {"trainable": False},
        {"compiled_trainable": False},
        {"provenance": Provenance.LOADED},
        {"momentum": 0.5},
        {"forced_inference": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_state_of_the_model_is_checked_at_once(change):
    repeated = RepeatedFits()
    due(repeated, rows, fits=3)
    changed = replace(MODEL, norms=(replace(MODEL.norms[0], **change),))
    assert due(repeated, rows, changed) == [True]


def test_constant_features_and_text_are_data_too():
    constant = RepeatedFits()
    assert due(constant, lambda: DataSample("x", [Batch(np.full((8, 2), 3.0))]), fits=3)[2] is False
    assert due(constant, lambda: DataSample("x", [Batch(np.full((8, 2), 3.1))])) == [True]
    text = RepeatedFits()
    assert due(text, lambda: DataSample("x", [Batch(np.array(["a", "b"]))]), fits=3)[2] is False


def test_what_is_remembered_is_bounded():
    repeated = RepeatedFits()
    for offset in range(3 * MAX_KINDS):
        due(repeated, lambda offset=offset: rows(offset=10.0 * offset))
    assert len(repeated._seen) == MAX_KINDS
