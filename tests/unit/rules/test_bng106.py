"""BNG106 with hand-made records."""

from keras_bnguard.records import SkipKind
from keras_bnguard.rules.bng106_batchnorm_shared_by_compiled_models import (
    BatchnormSharedByCompiledModels,
)
from tests.builders.facts import facts, norm, shared, skipped, stack, the_violation, violations

RULE = BatchnormSharedByCompiledModels


def test_it_fires_where_two_compiled_models_want_different_flags():
    pairs = (shared("bn1", True, False), shared("bn2", True, False), shared("bn3", True, True))
    violation = the_violation(RULE, facts(norm("bn1"), norm("bn2"), norm("bn3"), shared=pairs))
    assert violation.layers == ("bn1", "bn2")
    assert "also part of gan with the opposite flag" in violation.message
    assert "0 frozen, 2 trainable" in violation.message


def test_it_reports_when_this_keras_reads_flags():
    pairs = (shared("bn", True, False),)
    described = {
        name: the_violation(RULE, facts(norm("bn"), on=stack(name), shared=pairs)).message
        for name in ("k2", "k3-tf", "k3-jax", "k3-torch")
    }
    assert "its own compile()" in described["k2"]
    assert "of its first step" in described["k3-tf"]
    assert "raise or mix weights" in described["k3-jax"]
    assert "counts at once" in described["k3-torch"]


def test_it_reports_that_the_other_model_contains_this_one():
    pairs = (shared("bn", True, False, contains=True),)
    assert "gan contains this model" in the_violation(RULE, facts(norm("bn"), shared=pairs)).message


def test_equal_flags_are_silent():
    assert not violations(RULE, facts(norm("bn"), shared=(shared("bn", True, True),)))


def test_a_bn_that_is_not_shared_is_silent_and_that_counts_as_searched():
    known = facts(norm("bn"), shared=())
    assert not violations(RULE, known)
    assert skipped(RULE, known) is None


def test_it_is_skipped_where_nobody_searched_for_other_models():
    known = facts(norm("bn"), shared=None)
    assert not violations(RULE, known)
    assert skipped(RULE, known) is SkipKind.NOT_COLLECTED
