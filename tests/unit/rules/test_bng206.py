"""BNG206 with hand-made records."""

from keras_bnguard.records import ExpectedMode, NormBehaviour, NormKind, RunMode, SkipKind
from keras_bnguard.rules.bng206_train_step_runs_inference import TrainStepRunsInference
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

RULE = TrainStepRunsInference
NONE_GIVEN = {"bn": (site(None),)}
DROPS = NormBehaviour(trainable_updates=False, frozen_updates=False, frozen_uses_batch=False)


def inference(**settings):
    return stuck("bn", **{"ran": RunMode.INFERENCE, "affine_changed": True, **settings})


def known(statistics_change=None, layer=None, calls=NONE_GIVEN, **settings):
    observed = run(statistics_change or inference(), calls=calls, **settings)
    return facts(layer or norm("bn"), on=stack("k3-jax"), run=observed)


def test_it_fires_where_a_step_ran_in_inference_mode():
    violation = the_violation(RULE, known())
    assert violation.layers == ("bn",)
    assert "After 10 steps mean and variance are bit-identical" in violation.message
    assert "changed in 1 of 1" in violation.message
    assert "keras 3.15.1 on jax" in violation.message
    assert "pass training=True to the call" in violation.fix


def test_it_fires_where_gamma_and_beta_were_not_read():
    assert "changed in 0 of 1" in the_violation(RULE, known(inference(affine_changed=None))).message


def test_momentum_that_is_not_known_does_not_silence_it():
    assert violations(RULE, known(layer=norm("bn", momentum=None)))


def test_momentum_1_is_silent():
    assert not violations(RULE, known(layer=norm("bn", momentum=1.0)))


def test_a_frozen_bn_is_silent():
    assert not violations(RULE, known(inference(expected=ExpectedMode.INFERENCE)))


def test_a_bn_forced_by_this_package_is_silent():
    forced = inference(expected=ExpectedMode.INFERENCE, why="forced")
    assert not violations(RULE, known(forced, norm("bn", forced_inference=True)))


def test_training_false_at_every_call_site_is_silent():
    on_purpose = {"bn": (site(False, explicit=False), site(False, explicit=False))}
    assert not violations(RULE, known(calls=on_purpose))
    assert violations(RULE, known(calls={"bn": (site(False, explicit=False), site(None))}))


def test_statistics_that_changed_and_were_put_back_are_left_to_bng405():
    assert not violations(RULE, known(inference(ran=RunMode.TRAINING)))


def test_statistics_that_changed_are_silent():
    assert not violations(RULE, known(changed("bn", ran=RunMode.INFERENCE, affine_changed=True)))


def test_gamma_and_beta_that_did_not_change_are_silent():
    assert not violations(RULE, known(inference(affine_changed=False)))


def test_a_leaked_false_is_left_to_bng203():
    assert not violations(RULE, known(calls={"bn": (site(False, leaked_from="base"),)}))


def test_a_subclass_that_drops_training_is_left_to_bng205():
    assert not violations(RULE, known(layer=norm("bn", builtin=False, behaviour=DROPS)))


def test_a_bn_that_the_step_did_not_run_is_silent():
    assert not violations(RULE, known(calls={}))


def test_variables_without_a_visible_mode_are_silent():
    assert not violations(RULE, known(layer=norm("bn", kind=NormKind.VARIABLES)))


def test_it_is_silent_before_the_first_step():
    assert not violations(RULE, known(steps=0))


def test_it_is_skipped_before_a_step_was_observed():
    blind = facts(norm("bn"), run=run(stuck("bn", affine_changed=True)))
    assert not violations(RULE, blind)
    assert skipped(RULE, blind) is SkipKind.TOO_EARLY
    assert skipped(RULE, known()) is None
