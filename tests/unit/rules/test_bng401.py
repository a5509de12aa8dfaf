"""BNG401 with hand-made records."""

import pytest

from keras_bnguard.records import AUDIT, TRAIN_START
from keras_bnguard.rules.bng401_statistics_never_loaded import StatisticsNeverLoaded
from tests.builders.facts import (
    call,
    changed,
    facts,
    layers_of,
    norm,
    past,
    run,
    shared,
    the_violation,
    violations,
)

RULE = StatisticsNeverLoaded


def fresh(path, **settings):
    return norm(path, at_default=True, **settings)


def test_a_frozen_bn_at_its_start_values_fires():
    violation = the_violation(RULE, facts(fresh("backbone/bn", trainable=False)))
    assert violation.layers == ("backbone/bn",)
    assert "(1 frozen; 0 of 1 BN in the model carry trained statistics)" in violation.message
    assert "get_weights" in violation.fix


@pytest.mark.parametrize(
    "settings", [{"frozen_ancestors": ("backbone",)}, {"calls": (call(False), call(False))}]
)
def test_so_does_one_that_is_frozen_in_another_way(settings):
    assert layers_of(RULE, facts(fresh("backbone/bn", **settings))) == ("backbone/bn",)


def test_a_trainable_bn_among_trained_siblings_of_a_sub_model_fires():
    known = facts(norm("backbone/a"), fresh("backbone/b"), norm("backbone/c"), fresh("head_bn"))
    violation = the_violation(RULE, known)
    assert violation.layers == ("backbone/b",)
    assert "1 among trained BN of its sub-model; 2 of 4 BN" in violation.message


def test_half_of_the_siblings_are_enough_and_less_are_not():
    half = (norm("backbone/a"), fresh("backbone/b"))
    third = (norm("backbone/a"), fresh("backbone/b"), fresh("backbone/c"))
    assert layers_of(RULE, facts(*half)) == ("backbone/b",)
    assert not violations(RULE, facts(*third))


def test_in_a_flat_model_only_a_bn_between_trained_ones_fires():
    flat = (
        fresh("stem", position=0),
        norm("a", position=1),
        fresh("b", position=2),
        norm("c", position=3),
        fresh("head_bn", position=4),
    )
    assert layers_of(RULE, facts(*flat)) == ("b",)


def test_a_forced_bn_fires_only_where_its_siblings_are_trained():
    forced = fresh("backbone/b", forced_inference=True)
    assert not violations(RULE, facts(forced))
    assert layers_of(RULE, facts(norm("backbone/a"), forced)) == ("backbone/b",)


def test_in_training_a_trainable_bn_with_nothing_loaded_is_new():
    known = norm("backbone/a"), fresh("backbone/b"), norm("backbone/c")
    start = run(moment=TRAIN_START, steps=0)
    assert not violations(RULE, facts(*known, run=start))
    assert not violations(RULE, facts(*known, run=run(changed("backbone/b"))))
    assert layers_of(RULE, facts(*known, run=run(moment=AUDIT, steps=0))) == ("backbone/b",)


def test_loaded_gamma_or_beta_without_statistics_fires_wherever_it_sits():
    start = run(moment=TRAIN_START, steps=0)
    known = facts(fresh("a", affine_varies=True), fresh("b"), run=start)
    assert layers_of(RULE, known) == ("a",)
    assert "1 with loaded gamma or beta" in the_violation(RULE, known).message


@pytest.mark.parametrize(
    "seen",
    [{"steps": 5}, {"before": past()}, {"optimizer_started": 4}, {"calls_observable": False}],
)
def test_gamma_that_this_process_trained_is_not_loaded(seen):
    start = run(**{"moment": TRAIN_START, "steps": 0, **seen})
    assert not violations(RULE, facts(fresh("a", affine_varies=True), run=start))


def test_a_fresh_head_beside_a_trained_backbone_is_silent():
    known = facts(norm("backbone/bn"), fresh("head_bn", position=9), fresh("head/bn"))
    assert not violations(RULE, known)


def test_a_fresh_student_beside_a_trained_teacher_is_silent():
    teacher = norm("teacher/a", trainable=False), norm("teacher/b", trainable=False)
    assert not violations(RULE, facts(*teacher, fresh("student/a"), fresh("student/b")))


def test_a_whole_model_trained_from_scratch_is_silent():
    assert not violations(RULE, facts(fresh("a"), fresh("b"), fresh("net/c")))


def test_a_frozen_bn_that_another_model_trains_is_silent():
    bn = fresh("bn", trainable=False)
    assert not violations(RULE, facts(bn, shared=(shared("bn", False, True),)))
    assert violations(RULE, facts(bn, shared=(shared("bn", False, False),)))
    assert violations(RULE, facts(bn, shared=(shared("other", False, True),)))


def test_bn_that_are_not_built_or_not_read_are_silent():
    unread = norm("a", trainable=False, at_default=None)
    unbuilt = fresh("b", trainable=False, built=False)
    assert not violations(RULE, facts(unread, unbuilt))
