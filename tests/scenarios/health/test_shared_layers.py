"""Correct programs with several models that share layers: no error is found, nothing repaired."""

from __future__ import annotations

from typing import Any, Iterator, List

import pytest

import keras_bnguard as bng
from keras_bnguard import auto
from keras_bnguard.records import Severity
from tests.builders.harness import SAME_FLAGS
from tests.builders.several_models import (
    ONCE,
    PROGRAMS,
    compiled,
    noise,
    norm,
    ones,
)
from tests.stack import STACK, keras

L = keras.layers
ALL = {**PROGRAMS, **(ONCE if SAME_FLAGS else {})}


@pytest.fixture(autouse=True)
def watching() -> Iterator[None]:
    """Every model is watched, and what can be repaired would be."""
    before = len(auto.internal_errors())
    bng.enable_warnings(on_finding=lambda finding: None, fix=True)
    yield
    bng.disable_warnings()
    assert auto.internal_errors()[before:] == []


def reports() -> List[Any]:
    return list(auto.reports())


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_correct_program_has_no_error_and_no_repair(name: str) -> None:
    ALL[name]()
    assert reports()
    found = [finding for report in reports() for finding in report.findings]
    assert [f"{f.code} {f.message}" for f in found if f.severity is Severity.ERROR] == []
    assert "BNG110" not in {finding.code for finding in found}
    assert [repair for report in reports() for repair in report.repairs] == []


def test_there_are_at_least_25_programs() -> None:
    assert len(PROGRAMS) >= 25


@pytest.mark.skipif(STACK not in ("k2", "tfk", "k3-tf"), reason="flags count at the next step")
def test_a_model_that_was_compiled_earlier_explains_nothing() -> None:
    """It merely has the flag that was set and forgotten: the layer stays frozen."""
    row = L.Input((6,))
    trunk = [L.Dense(8, name="trunk"), norm()]
    features = trunk[1](trunk[0](row))
    compiled(keras.Model(row, features, name="pretrained"))
    for layer in trunk:
        layer.trainable = False
    model = compiled(keras.Model(row, L.Dense(1)(features), name="fine_tuned"))
    model.fit(noise(6), ones(), verbose=0)
    for layer in trunk:
        layer.trainable = True
    bng.enable_warnings(on_finding=lambda finding: None, fix=False)
    model.fit(noise(6), ones(), verbose=0)
    assert "BNG101" in reports()[-1].codes
