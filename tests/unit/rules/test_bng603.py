"""BNG603 on hand-made facts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keras_bnguard.records import Averaging
from keras_bnguard.rules.bng603_averaged_weights_stale_statistics import (
    AveragedWeightsStaleStatistics as Rule,
)
from tests.builders.facts import adam, facts, hits, layers_of, moved, norm, run, stuck, the_hit

EMA = Averaging("Adam(use_ema=True)", assigned=True, distance=0.2)


def ended(averaging=EMA, *movements, **settings):
    movements = movements or (moved("a"), stuck("b"))
    known = run(*movements, **{"ended": True, "averaging": averaging, **settings})
    return facts(norm("a"), norm("b"), run=known, optimizer=adam())


def test_averages_in_the_weights_with_statistics_that_trained():
    hit = the_hit(Rule, ended())
    assert hit.layers == ("a",)
    assert "20.0 % away" in hit.message
    assert "bng.recalibrate(model, x)" in hit.fix


def test_averages_that_wait_to_be_assigned():
    hit = the_hit(Rule, ended(replace(EMA, keeper="SWA", assigned=False)))
    assert "SWA keeps averages" in hit.message
    assert "assign_average_vars" in hit.fix


def test_a_distance_nobody_saw_counts_as_far():
    hit = the_hit(Rule, ended(replace(EMA, distance=None)))
    assert "away" not in hit.message


@pytest.mark.parametrize(
    "quiet",
    [
        None,
        replace(EMA, recalibrated=True),
        replace(EMA, restored=True),
        replace(EMA, distance=0.049),
    ],
)
def test_silent_where_nothing_is_stale(quiet):
    assert layers_of(Rule, ended(quiet)) == ()
    assert Rule().cannot_look(ended(quiet)) is None


def test_silent_where_no_bn_trained_or_no_step_was_taken():
    assert hits(Rule, ended(EMA, stuck("a"), moved("b", "inference"))) == []
    assert hits(Rule, ended(steps=0)) == []


def test_before_training_ends_it_is_skipped_not_clear():
    known = ended(ended=False)
    assert hits(Rule, known) == []
    assert "ended" in Rule().cannot_look(known)
