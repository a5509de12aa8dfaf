"""BNG407 with hand-made records."""

import pytest

from keras_bnguard.records import SkipKind
from keras_bnguard.rules.bng407_statistics_still_converging import StatisticsStillConverging
from tests.builders.facts import (
    changed,
    ema_bias,
    facts,
    norm,
    run,
    skipped,
    the_violation,
    violations,
)

RULE = StatisticsStillConverging


def over(*ema_biases, norms=None, fit_settings=None, **settings):
    norms = norms or [norm(item.path) for item in ema_biases]
    statistics_changes = [changed(item.path) for item in ema_biases]
    known = run(
        *statistics_changes, **{"steps": 400, "ended": True, "ema_biases": ema_biases, **settings}
    )
    return facts(*norms, run=known, fit_settings=fit_settings)


def test_it_fires_on_statistics_that_are_still_on_their_way():
    violation = the_violation(RULE, over(ema_bias("bn", shift=1.2), ema_bias("ok", shift=0.1)))
    assert violation.layers == ("bn",)
    assert "After the last 40 steps" in violation.message
    assert "1.2 standard deviations (limit 0.5)" in violation.message
    assert "bng.recalibrate" in violation.fix


def test_a_variance_on_its_way_is_enough():
    assert violations(RULE, over(ema_bias("bn", log_variance=1.0)))


def test_converged_statistics_are_silent():
    assert not violations(RULE, over(ema_bias("bn", shift=0.5, log_variance=0.7)))


def test_what_bng301_names_is_left_to_it():
    late = ema_bias("bn", shift=1.2, initial_weight=0.3, start_shift=2.0)
    assert not violations(RULE, over(late))


def test_a_trial_of_a_few_steps_is_silent():
    assert not violations(RULE, over(ema_bias("bn", shift=1.2), steps=9))


def test_recalibration_in_the_same_fit_is_silent():
    assert not violations(
        RULE, over(ema_bias("bn", shift=1.2), fit_settings={"recalibrates": True})
    )


@pytest.mark.parametrize("settings", [{"trainable": False}, {"forced_inference": True}])
def test_frozen_bn_are_silent(settings):
    assert not violations(RULE, over(ema_bias("bn", shift=1.2), norms=[norm("bn", **settings)]))


def test_nan_is_left_to_others():
    assert not violations(RULE, over(ema_bias("bn", shift=float("nan"))))


def test_it_is_skipped_before_training_is_over():
    known = facts(norm("bn"), run=run(changed("bn")))
    assert skipped(RULE, known) is SkipKind.TOO_EARLY
    assert skipped(RULE, over(ema_bias("bn"))) is None
