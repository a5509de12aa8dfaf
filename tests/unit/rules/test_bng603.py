"""BNG603 on hand-made facts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keras_bnguard.records import Averaging, ExpectedMode, SkipKind
from keras_bnguard.rules.bng603_averaged_weights_stale_statistics import (
    AveragedWeightsStaleStatistics as Rule,
)
from tests.builders.facts import (
    adam,
    changed,
    facts,
    layers_of,
    norm,
    run,
    skipped,
    stuck,
    the_violation,
    violations,
)

EMA = Averaging("Adam(use_ema=True)", assigned=True, distance=0.2)


def ended(averaging=EMA, *statistics_changes, **settings):
    statistics_changes = statistics_changes or (changed("a"), stuck("b"))
    known = run(*statistics_changes, **{"ended": True, "averaging": averaging, **settings})
    return facts(norm("a"), norm("b"), run=known, optimizer=adam())


def test_averages_in_the_weights_with_statistics_that_trained():
    violation = the_violation(Rule, ended())
    assert violation.layers == ("a",)
    assert "20.0 % away" in violation.message
    assert "bng.recalibrate(model, x)" in violation.fix


def test_averages_that_wait_to_be_assigned():
    violation = the_violation(Rule, ended(replace(EMA, keeper="SWA", assigned=False)))
    assert "SWA keeps averages" in violation.message
    assert "assign_average_vars" in violation.fix


def test_a_distance_nobody_saw_counts_as_far():
    violation = the_violation(Rule, ended(replace(EMA, distance=None)))
    assert "away" not in violation.message


@pytest.mark.parametrize(
    "unchanged",
    [
        None,
        replace(EMA, recalibrated=True),
        replace(EMA, restored=True),
        replace(EMA, distance=0.049),
    ],
)
def test_silent_where_nothing_is_stale(unchanged):
    assert layers_of(Rule, ended(unchanged)) == ()
    assert skipped(Rule, ended(unchanged)) is None


def test_silent_where_no_bn_trained_or_no_step_was_taken():
    assert violations(Rule, ended(EMA, stuck("a"), changed("b", ExpectedMode.INFERENCE))) == []
    assert violations(Rule, ended(steps=0)) == []


def test_before_training_ends_it_is_skipped_not_clear():
    known = ended(ended=False)
    assert violations(Rule, known) == []
    assert skipped(Rule, known) is SkipKind.TOO_EARLY
