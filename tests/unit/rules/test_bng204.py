"""BNG204 with hand-made records."""

from keras_bnguard.records import SkipKind
from keras_bnguard.rules.bng204_augmentation_switches_batchnorm_to_training import (
    AugmentationSwitchesBatchnormToTraining,
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
    training_default,
    violations,
)

RULE = AugmentationSwitchesBatchnormToTraining
AUGMENTATION = (training_default("augment/crop", 2),)


def after(path="bn", **settings):
    return norm(path, **{"calls": (call(None, "", 5),), **settings})


def test_it_fires_on_trainable_bn_after_an_augmentation_layer():
    known = facts(
        norm("stem_bn", calls=(call(None, "", 1),)), after(), training_defaults=AUGMENTATION
    )
    violation = the_violation(RULE, known)
    assert violation.layers == ("bn",)
    assert "after augment/crop" in violation.message
    assert "a plain model(x)" in violation.message


def test_a_second_call_after_the_switch_counts():
    twice = norm("bn", calls=(call(None, "", 1), call(None, "", 3)))
    assert layers_of(RULE, facts(twice, training_defaults=AUGMENTATION)) == ("bn",)


def test_a_subclassed_model_is_judged_by_an_observed_step():
    switched = run(
        calls={"bn": (site(True, switched_by="trainable_change"),), "bn2": (site(True),)}
    )
    known = facts(norm("bn"), norm("bn2"), run=switched, functional=False)
    violation = the_violation(RULE, known)
    assert violation.layers == ("bn",)
    assert "after trainable_change" in violation.message


def test_a_keras_without_the_leak_is_silent():
    assert not violations(RULE, facts(after(), on=stack("k2"), training_defaults=AUGMENTATION))
    fixed = stack("k3-tf", default_leaks=False)
    switched = run(calls={"bn": (site(True, switched_by="trainable_change"),)})
    assert not violations(
        RULE, facts(after(), on=fixed, training_defaults=AUGMENTATION, run=switched)
    )


def test_a_model_without_such_layers_is_silent():
    assert not violations(RULE, facts(after()))


def test_frozen_forced_and_explicitly_called_bn_are_silent():
    for unchanged in (
        after(trainable=False),
        after(frozen_ancestors=("backbone",)),
        after(forced_inference=True),
        after(calls=(call(False, "backbone", 5),)),
        after(calls=(call(True, "backbone", 5),)),
    ):
        assert not violations(RULE, facts(unchanged, training_defaults=AUGMENTATION))


def test_the_order_is_not_trusted_where_the_model_is_no_graph():
    assert not violations(RULE, facts(after(), training_defaults=AUGMENTATION, functional=False))


def test_it_is_skipped_for_a_subclassed_model_before_a_step():
    subclassed = facts(after(), training_defaults=AUGMENTATION, functional=False)
    assert skipped(RULE, subclassed) is SkipKind.TOO_EARLY
    observed = facts(after(), training_defaults=AUGMENTATION, functional=False, run=run(calls={}))
    assert skipped(RULE, observed) is None
    assert skipped(RULE, facts(after(), training_defaults=AUGMENTATION)) is None
    assert skipped(RULE, facts(after(), on=stack("k2"), functional=False)) is None
