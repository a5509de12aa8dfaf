"""BNG404 with hand-made records."""

import math

from keras_bnguard.records import ExpectedMode, NormKind, RunMode, SkipKind
from keras_bnguard.rules.bng404_frozen_statistics_updated import FrozenStatisticsUpdated
from tests.builders.facts import (
    changed,
    facts,
    norm,
    run,
    site,
    skipped,
    stack,
    stuck,
    the_violation,
    violations,
)

RULE = FrozenStatisticsUpdated


def still(path="bn", **settings):
    known = {"why": "its own trainable is False", "max_mean_shift": 0.31}
    return changed(path, ExpectedMode.INFERENCE, **{**known, **settings})


def test_it_fires_on_a_frozen_bn_that_changed():
    known = facts(norm("bn", trainable=False), on=stack("k3-tf"), run=run(still(), still("bn2")))
    violation = the_violation(RULE, known)
    assert violation.layers == ("bn", "bn2")
    assert "by up to 0.31 standard deviations in 10 steps" in violation.message
    assert "keras 3.15.1 on tensorflow" in violation.message
    assert "its own trainable is False" in violation.message


def test_one_bit_is_enough():
    assert violations(RULE, facts(norm("bn"), run=run(still(max_mean_shift=0.0))))


def test_nan_counts_as_moved():
    violation = the_violation(RULE, facts(norm("bn"), run=run(still(max_mean_shift=math.nan))))
    assert "to NaN or Inf" in violation.message


def test_it_fires_without_an_observed_step():
    unseen = still(ran=RunMode.UNKNOWN)
    assert violations(RULE, facts(norm("bn"), run=run(unseen)))


def test_statistics_that_another_model_may_have_trained_are_silent():
    changed_there = run(still(), trained_elsewhere=frozenset({"bn"}))
    assert violations(RULE, facts(norm("bn"), run=run(still())))
    assert not violations(RULE, facts(norm("bn"), run=changed_there))


def test_a_trainable_bn_is_silent():
    assert not violations(RULE, facts(norm("bn"), run=run(changed("bn"))))


def test_a_bn_that_did_not_change_is_silent():
    assert not violations(RULE, facts(norm("bn"), run=run(stuck("bn", ExpectedMode.INFERENCE))))


def test_statistics_assigned_by_the_users_own_code_are_silent():
    assert not violations(RULE, facts(norm("bn"), run=run(still(ran=RunMode.INFERENCE))))


def test_statistics_of_a_teacher_that_the_step_does_not_run_are_silent():
    observed = run(still("teacher/bn", ran=RunMode.UNKNOWN), calls={"bn": (site(True),)})
    assert not violations(RULE, facts(norm("teacher/bn"), norm("bn"), run=observed))
    assert violations(RULE, facts(norm("teacher/bn", kind=NormKind.VARIABLES), run=observed))


def test_it_is_skipped_before_the_first_step():
    known = facts(norm("bn"), run=run(still(), steps=0))
    assert not violations(RULE, known)
    assert skipped(RULE, known) is SkipKind.TOO_EARLY
    assert skipped(RULE, facts(run=run())) is None
