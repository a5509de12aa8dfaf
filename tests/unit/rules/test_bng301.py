"""BNG301 with hand-made records."""

import numpy as np
import pytest

from keras_bnguard.records import NormKind, SkipKind
from keras_bnguard.rules.bng301_momentum_too_slow_for_run import MomentumTooSlowForRun
from tests.builders.facts import (
    call,
    changed,
    ema_bias,
    facts,
    norm,
    reached,
    run,
    sampled,
    skipped,
    stack,
    the_violation,
    violations,
)

RULE = MomentumTooSlowForRun
HYPER = {"epochs": 2, "steps": 10}


def over(
    *ema_biases,
    statistics_changes=None,
    fit_settings=HYPER,
    norms=None,
    data=None,
    on=None,
    **settings,
):
    """Training is over; every BN with an EMA bias changed."""
    norms = norms or [norm(item.path) for item in ema_biases]
    statistics_changes = statistics_changes or [changed(item.path) for item in ema_biases]
    known = run(
        *statistics_changes, **{"steps": 20, "ended": True, "ema_biases": ema_biases, **settings}
    )
    return facts(*norms, on=on, run=known, fit_settings=fit_settings, data=data)


def late(path="bn", **settings):
    return ema_bias(path, **{"initial_weight": 0.82, "start_shift": 2.0, **settings})


def before(item, norms=None, fit_settings=HYPER):
    return facts(*(norms or [norm(item.path)]), fit_settings=fit_settings, data=sampled(item))


def measured(mean=5.0, variance=4.0, moving_mean=0.0, moving_variance=1.0, **settings):
    parts = {
        "mean": mean,
        "variance": variance,
        "moving_mean": moving_mean,
        "moving_variance": moving_variance,
    }
    return reached("bn", **{k: np.full(3, v) for k, v in parts.items()}, **settings)


def test_it_fires_at_the_end_of_training_on_the_remaining_initial_value():
    violation = the_violation(RULE, over(late(), ema_bias("ok")))
    assert violation.layers == ("bn",)
    assert "20 steps at momentum 0.99 leave 82 %" in violation.message
    assert "up to 2 standard deviations (limit 0.5)" in violation.message
    assert "bng.recalibrate" in violation.fix
    assert "momentum = 0.86" in violation.fix


def test_a_variance_that_is_off_is_enough():
    assert violations(RULE, over(late(start_shift=0.0, start_log_variance=2.0)))


def test_start_values_that_fit_are_silent():
    assert not violations(RULE, over(late(start_shift=0.1, start_log_variance=0.1)))


def test_a_long_run_is_silent():
    assert not violations(RULE, over(late(initial_weight=0.04)))


def test_a_trial_of_a_few_steps_is_silent():
    assert not violations(RULE, over(late(), steps=9))
    assert violations(RULE, over(late(), steps=10))


def test_statistics_that_fit_the_data_at_the_end_are_silent():
    fits = sampled(reached("bn", mean_shift=0.1))
    assert not violations(RULE, over(late(), data=fits))
    assert violations(RULE, over(late(), data=sampled(reached("bn", mean_shift=2.0))))


def test_it_fires_before_the_first_step_where_data_show_the_misfit():
    violation = the_violation(RULE, before(measured()))
    assert "leave 82 %" in violation.message
    assert violation.evidence["mean_shift"]["bn"] == pytest.approx(0.82 * 5 / 2, rel=0.01)


def test_before_the_first_step_data_that_fit_are_silent():
    assert not violations(RULE, before(measured(moving_mean=5.0, moving_variance=4.0)))


def test_a_bn_that_runs_twice_a_step_counts_twice():
    fit_settings = {"epochs": 1, "steps": 200}
    assert violations(RULE, before(measured(mean=12.0), fit_settings=fit_settings))
    assert not violations(RULE, before(measured(mean=12.0, calls=2), fit_settings=fit_settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"trainable": False},
        {"forced_inference": True},
        {"momentum": 1.0},
        {"kind": NormKind.VARIABLES},
    ],
)
def test_bn_that_do_not_learn_statistics_are_silent(settings):
    assert not violations(RULE, over(late(), norms=[norm("bn", **settings)]))
    assert not violations(RULE, before(measured(), norms=[norm("bn", **settings)]))


def test_bn_that_did_not_change_are_silent():
    assert not violations(RULE, over(late(), statistics_changes=[changed("bn", changed=False)]))


def test_recalibration_in_the_same_fit_is_silent():
    assert not violations(RULE, over(late(), fit_settings={**HYPER, "recalibrates": True}))


def test_non_finite_statistics_are_left_to_others():
    assert not violations(
        RULE, over(late(start_shift=float("nan"), start_log_variance=float("nan")))
    )


def test_without_data_it_is_skipped_before_training_is_over():
    assert skipped(RULE, facts(norm("bn"), fit_settings=HYPER)) is SkipKind.MISSING_FACT
    unknown = facts(norm("bn"), fit_settings={"epochs": 2, "steps": None})
    assert skipped(RULE, unknown) is SkipKind.TOO_EARLY
    assert skipped(RULE, over(ema_bias("bn"))) is None


def test_bn_that_use_the_batch_at_inference_too_are_silent():
    forced = norm("bn", calls=(call(True),))
    assert not violations(RULE, over(late(), norms=[forced], on=stack("k2")))
    assert violations(RULE, over(late(), norms=[forced], on=stack("k3-tf")))
    assert violations(RULE, over(late(), norms=[norm("bn", calls=(call(None),))], on=stack("k2")))
