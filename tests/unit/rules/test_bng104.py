"""BNG104 on hand-made facts."""

import pytest

from keras_bnguard.records import NormBehaviour, Provenance, SkipKind
from keras_bnguard.rules.bng104_pretrained_batchnorm_unfrozen import (
    PretrainedBatchnormUnfrozen as RULE,
)
from tests.builders.facts import (
    call,
    facts,
    layers_of,
    norm,
    past,
    run,
    site,
    skipped,
    the_violation,
    trainable_change,
    violations,
)


def known(*now, before=None, **settings):
    if before is None:
        before = [norm("base/bn", trainable=False)]
    return facts(*now, run=run(before=past(*before), **settings))


def test_it_names_what_was_frozen_before_and_trains_now():
    violation = the_violation(RULE, known(norm("base/bn"), norm("head_bn", at_default=True)))
    assert violation.layers == ("base/bn",)
    assert "10 steps" in violation.message
    assert "0.99, half of what was learnt is gone after 69 steps" in violation.message


def test_silent_where_the_class_never_updates():
    never = NormBehaviour(trainable_updates=False, frozen_updates=False, frozen_uses_batch=False)
    assert not violations(RULE, known(norm("base/bn", builtin=False, behaviour=never)))


@pytest.mark.parametrize("momentum", [None, 0.0, 1.0])
def test_a_momentum_without_a_half_life_is_left_out(momentum):
    assert "half of" not in the_violation(RULE, known(norm("base/bn", momentum=momentum))).message


def test_forced_and_called_with_false_count_as_frozen():
    for settings in ({"forced_inference": True}, {"calls": (call(False),)}):
        assert violations(RULE, known(norm("base/bn"), before=[norm("base/bn", **settings)]))
        assert not violations(RULE, known(norm("base/bn", **settings)))


def test_silent_where_only_gamma_and_beta_are_unfrozen():
    assert not violations(RULE, known(norm("base/bn", forced_inference=True)))


def test_silent_for_norms_that_trained_before_or_have_learnt_nothing():
    assert not violations(RULE, known(norm("base/bn"), before=[norm("base/bn")]))
    assert not violations(RULE, known(norm("base/bn", at_default=True)))
    fresh = norm("base/bn", trainable=False, at_default=True)
    assert not violations(RULE, known(norm("base/bn"), before=[fresh]))
    assert not violations(RULE, known(norm("new/bn")))


def test_silent_in_phases_of_a_scheduler_and_without_a_fit_before():
    assert not violations(RULE, known(norm("base/bn"), phase="all"))
    assert not layers_of(RULE, facts(norm("base/bn"), run=run()))


def test_silent_where_the_step_is_built_for_other_flags():
    assert not violations(
        RULE, known(norm("base/bn"), trainable_changes=(trainable_change("base/bn", now=True),))
    )


def test_it_is_skipped_where_nothing_came_before():
    assert skipped(RULE, facts(run=run())) is SkipKind.NOT_KNOWN
    assert skipped(RULE, known(norm("base/bn"))) is None


def test_a_subclassed_model_is_judged_once_its_first_step_has_shown_its_calls():
    bn = norm("base/bn")
    before = past(norm("base/bn", trainable=False))
    start = facts(bn, run=run(before=before, steps=0), functional=False)
    assert not violations(RULE, start)
    assert skipped(RULE, start) is SkipKind.TOO_EARLY
    false = run(before=before, calls={"base/bn": (site(False, False),)})
    assert not violations(RULE, facts(bn, run=false, functional=False))
    true = run(before=before, calls={"base/bn": (site(True),)})
    assert layers_of(RULE, facts(bn, run=true, functional=False)) == ("base/bn",)


def test_statistics_that_only_this_model_trained_are_silent():
    assert not violations(RULE, known(norm("base/bn", provenance=Provenance.TRAINED_HERE)))
    assert violations(RULE, known(norm("base/bn", provenance=Provenance.LOADED)))
