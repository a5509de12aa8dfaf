"""BNG609 on facts made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keras_bnguard.records import AssignedWeights, Moment, MomentKind, SkipKind
from keras_bnguard.rules.bng609_weights_replaced_statistics_not import (
    WeightsReplacedStatisticsNot as Rule,
)
from tests.builders.facts import facts, norm, run, skipped, the_violation, violations

AVERAGED = AssignedWeights(
    Moment(MomentKind.TRAINING_END), ("a",), distance=0.2, callbacks=("SWA",), source="t.py:7"
)
PUT_BACK = replace(AVERAGED, distance=0.0, put_back=Moment(MomentKind.EPOCH_START, 0))


def after(assigned, **settings):
    return facts(norm("a"), norm("b"), run=run(assigned=assigned, **settings))


def test_averages_that_a_callback_assigned():
    violation = the_violation(Rule, after(AVERAGED))
    assert violation.layers == ("a",)
    assert violation.source == "t.py:7"
    assert "SWA assigned weights that are 20.0 % away" in violation.message
    assert "bng.recalibrate(model, x)" in violation.fix


def test_statistics_that_were_put_back():
    violation = the_violation(Rule, after(PUT_BACK))
    assert "start of epoch 1" in violation.message
    assert violation.evidence["put_back"]


@pytest.mark.parametrize(
    "unharmful",
    [
        None,
        replace(AVERAGED, distance=0.049),
        replace(AVERAGED, clipped=True),
        replace(AVERAGED, norms=()),
    ],
)
def test_silent_where_nothing_is_stale(unharmful):
    assert violations(Rule, after(unharmful)) == []
    assert skipped(Rule, after(unharmful)) is None


def test_before_the_first_step_it_is_skipped():
    assert skipped(Rule, after(None, steps=0)) is SkipKind.TOO_EARLY
