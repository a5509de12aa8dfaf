"""BNG405 with hand-made records."""

from dataclasses import replace

import pytest

from keras_bnguard.records import ExpectedMode, NormBehaviour, NormKind, RunMode, SkipKind
from keras_bnguard.rules.bng405_trainable_statistics_unchanged import TrainableStatisticsUnchanged
from tests.builders.facts import (
    changed,
    facts,
    norm,
    past,
    run,
    site,
    skipped,
    stuck,
    the_violation,
    violations,
)

RULE = TrainableStatisticsUnchanged
DROPS = NormBehaviour(trainable_updates=False, frozen_updates=False, frozen_uses_batch=False)
TRAINED = {"bn": (site(True),)}


def known(statistics_change=None, layer=None, **settings):
    observed = run(statistics_change or stuck("bn", ran=RunMode.UNKNOWN), **settings)
    return facts(layer or norm("bn"), run=observed)


def test_it_fires_where_the_cause_is_not_known():
    violation = the_violation(RULE, known())
    assert violation.layers == ("bn",)
    assert (
        "bit-identical after 10 steps in 1 trainable BN layer: bn (momentum 0.99)"
        in violation.message
    )
    assert "cause unknown" in violation.message


def test_statistics_that_changed_and_were_put_back_fire():
    violation = the_violation(RULE, known(stuck("bn", ran=RunMode.TRAINING), calls=TRAINED))
    assert "something puts the old values back" in violation.message
    assert violation.evidence["ran_in_training"] == ("bn",)


def test_torch_modules_are_judged_too():
    assert violations(RULE, known(layer=norm("bn", kind=NormKind.TORCH, builtin=False)))


@pytest.mark.parametrize("momentum", [1.0, None])
def test_momentum_1_or_unknown_is_silent(momentum):
    assert not violations(RULE, known(layer=norm("bn", momentum=momentum)))


def test_training_false_at_every_call_site_is_silent():
    on_purpose = {"bn": (site(False, explicit=False),)}
    assert not violations(RULE, known(calls=on_purpose))


def test_a_bn_that_changed_is_silent():
    assert not violations(RULE, known(changed("bn")))


def test_a_frozen_bn_is_silent():
    assert not violations(RULE, known(stuck("bn", ExpectedMode.INFERENCE)))


def test_inference_mode_is_left_to_bng206():
    assert not violations(
        RULE, known(stuck("bn", ran=RunMode.INFERENCE, affine_changed=True), calls=TRAINED)
    )


def test_a_leaked_false_is_left_to_bng203():
    leaked = {"bn": (site(False, leaked_from="base"),)}
    assert not violations(RULE, known(stuck("bn", ran=RunMode.TRAINING), calls=leaked))


def test_a_subclass_that_drops_training_is_left_to_bng205():
    assert not violations(RULE, known(layer=norm("bn", builtin=False, behaviour=DROPS)))


def test_a_bn_that_the_step_did_not_run_is_silent():
    assert not violations(RULE, known(calls={"other": (site(True),)}))


def test_variables_without_a_visible_mode_are_silent():
    assert not violations(RULE, known(layer=norm("bn", kind=NormKind.VARIABLES)))


def test_it_is_skipped_before_the_first_step():
    assert not violations(RULE, known(steps=0))
    assert skipped(RULE, known(steps=0)) is SkipKind.TOO_EARLY
    assert skipped(RULE, known()) is None


def test_statistics_that_are_nan_are_silent():
    """They stay NaN whatever the step does: BNG402 reports it."""
    assert not violations(
        RULE, known(replace(stuck("bn", ran=RunMode.TRAINING), nonfinite=("moving_mean",)))
    )


@pytest.mark.parametrize(
    ("steps", "batches", "fires"),
    [(2000, 1, False), (1000, 1, True), (2000, 8, True), (2000, None, True)],
)
def test_one_batch_that_an_earlier_fit_saw_until_nothing_moved_is_silent(steps, batches, fires):
    before = past(norm("bn"), steps=steps)
    observed = run(stuck("bn", ran=RunMode.TRAINING), calls=TRAINED, before=before)
    known = facts(norm("bn"), run=observed, fit_settings={"steps": batches})
    assert bool(violations(RULE, known)) is fires
