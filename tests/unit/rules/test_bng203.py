"""BNG203 with hand-made records."""

from keras_bnguard.records import SkipKind
from keras_bnguard.rules.bng203_training_flag_leaks_to_later_layers import (
    TrainingFlagLeaksToLaterLayers,
)
from tests.builders.facts import (
    call,
    facts,
    layers_of,
    norm,
    run,
    site,
    skipped,
    stack,
    the_violation,
    violations,
)

RULE = TrainingFlagLeaksToLaterLayers
LEAKED = site(False, leaked_from="base")


def leaking(**calls):
    return run(calls=calls or {"head_bn": (LEAKED,)})


def test_it_names_the_bn_and_the_call_whose_false_leaks():
    known = facts(norm("base/bn"), norm("head_bn"), on=stack("k3-jax"), run=leaking())
    violation = the_violation(RULE, known)
    assert violation.layers == ("head_bn",)
    assert "training=False at base: head_bn" in violation.message
    assert "keras 3.15.1 on jax" in violation.message
    assert "leave the argument of base out" in violation.fix


def test_a_bn_is_found_under_its_other_path():
    known = facts(norm("head_bn", aliases=("head/bn",)), run=leaking(**{"head/bn": (LEAKED,)}))
    assert layers_of(RULE, known) == ("head_bn",)


def test_explicit_arguments_everywhere_are_silent():
    explicit = {"base/bn": (site(False, explicit=False),), "head_bn": (site(True, explicit=True),)}
    assert not violations(RULE, facts(norm("base/bn"), norm("head_bn"), run=run(calls=explicit)))


def test_a_leak_that_leaves_the_bn_in_training_mode_is_silent():
    harmless = {"head_bn": (site(True, leaked_from="base"),)}
    assert not violations(RULE, facts(norm("head_bn"), run=run(calls=harmless)))


def test_bn_in_inference_mode_are_silent():
    for still in (
        norm("head_bn", trainable=False),
        norm("head_bn", forced_inference=True),
        norm("head_bn", calls=(call(False),)),
    ):
        assert not violations(RULE, facts(still, run=leaking()))


def test_it_is_skipped_before_a_step_was_observed():
    known = facts(norm("head_bn"), run=run())
    assert not violations(RULE, known)
    assert skipped(RULE, known) is SkipKind.TOO_EARLY
    assert skipped(RULE, facts(norm("head_bn"), run=run(calls={}))) is None
