"""BNG406 with hand-made records."""

import numpy as np
import pytest

from keras_bnguard.records import ExpectedMode, Provenance, RunMode, SkipKind
from keras_bnguard.rules.bng406_statistics_drifted import StatisticsDrifted
from keras_bnguard.statistics.drift import bhattacharyya
from tests.builders.facts import (
    changed,
    facts,
    norm,
    run,
    skipped,
    stuck,
    the_violation,
    violations,
)

RULE = StatisticsDrifted


def drifted(path="backbone/bn", **settings):
    return changed(path, **{"distance": 0.3, "mean_shift": 1.5, **settings})


def known(*statistics_changes, **settings):
    norms = [norm(statistics_change.path) for statistics_change in statistics_changes]
    return facts(*norms, run=run(*statistics_changes, **settings))


def test_it_fires_on_a_large_distance_and_names_the_largest_first():
    small = drifted("backbone/bn2", distance=0.2, log_variance_ratio=2.5)
    violation = the_violation(RULE, known(small, drifted(), drifted("ok", distance=0.03)))
    assert violation.layers == ("backbone/bn", "backbone/bn2")
    assert "Largest distance 0.3 (limit 0.1)" in violation.message
    assert "mean shift up to 1.5 standard deviations" in violation.message
    assert "log variance ratio up to 2.5" in violation.message
    assert "after 10 steps" in violation.message


def test_the_threshold_itself_is_silent():
    assert not violations(RULE, known(drifted(distance=0.1)))


def test_correct_fine_tuning_is_silent():
    """A shift of 0.25 standard deviations with 0.6 in log variance."""
    apart = bhattacharyya(*(np.array([v]) for v in (0.25, np.exp(0.6), 0.0, 1.0, 0.0)))
    assert not violations(RULE, known(drifted(distance=float(apart[0]))))


def test_training_from_scratch_is_silent():
    assert not violations(RULE, known(drifted(started_at_default=True)))


def test_a_run_that_goes_on_from_an_earlier_one_is_silent():
    assert not violations(RULE, known(drifted(), optimizer_started=100))


def test_recalibration_asked_for_is_silent():
    assert not violations(RULE, known(drifted(ran=RunMode.INFERENCE)))


def test_frozen_still_and_non_finite_bn_are_silent():
    assert not violations(RULE, known(drifted(expected=ExpectedMode.INFERENCE)))
    assert not violations(RULE, known(stuck("bn", distance=2.0)))
    assert not violations(RULE, known(drifted(nonfinite=("moving_mean",))))


def test_it_is_skipped_before_the_first_step():
    assert skipped(RULE, known(steps=0)) is SkipKind.TOO_EARLY
    assert skipped(RULE, known()) is None


@pytest.mark.parametrize("made", [Provenance.TRAINED_HERE, Provenance.UNKNOWN])
def test_statistics_that_are_not_loaded_are_silent(made):
    change = drifted()
    trained = norm(change.path, provenance=made)
    loaded = norm(change.path, provenance=Provenance.LOADED)
    assert not violations(RULE, facts(trained, run=run(change)))
    assert violations(RULE, facts(loaded, run=run(change)))
