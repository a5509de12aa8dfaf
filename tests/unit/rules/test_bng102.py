"""BNG102 with hand-made records."""

import pytest

from keras_bnguard.records import NormKind
from keras_bnguard.rules.bng102_trainable_batchnorm_under_frozen_parent import (
    TrainableBatchnormUnderFrozenParent,
)
from tests.builders.facts import facts, layers_of, norm, stack, the_violation, violations

RULE = TrainableBatchnormUnderFrozenParent


def trainable(path="backbone/bn", **settings):
    return norm(path, frozen_ancestors=("backbone",), **settings)


def test_it_fires_on_a_trainable_bn_under_a_frozen_parent():
    violation = the_violation(RULE, facts(trainable(), norm("head_bn")))
    assert violation.layers == ("backbone/bn",)
    assert "(backbone)" in violation.message
    assert 'for layer in model.get_layer("backbone").layers:' in violation.fix


def test_it_points_at_the_flag_where_that_was_seen():
    violation = the_violation(
        RULE, facts(trainable(), trainable("backbone/b", flag_source="train.py:9"))
    )
    assert violation.source == "train.py:9"


@pytest.mark.parametrize("name", ["k2", "tfk"])
def test_keras_2_updates_the_statistics_only(name):
    assert "keeps gamma and beta" in the_violation(RULE, facts(trainable(), on=stack(name))).message


@pytest.mark.parametrize("name", ["k3-tf", "k3-jax", "k3-torch"])
def test_keras_3_trains_everything(name):
    assert (
        "trains gamma and beta" in the_violation(RULE, facts(trainable(), on=stack(name))).message
    )


def test_all_flags_trainable_is_silent():
    assert not violations(RULE, facts(norm("backbone/bn")))


def test_all_flags_frozen_is_silent():
    assert not violations(RULE, facts(trainable(trainable=False)))


def test_a_bn_in_forced_inference_is_silent():
    assert not violations(RULE, facts(trainable(forced_inference=True)))


def test_torch_modules_are_left_to_bng105():
    assert not violations(RULE, facts(trainable(kind=NormKind.TORCH)))


def test_a_list_of_names_is_the_fix_where_a_sub_model_has_other_bn():
    known = facts(
        trainable("backbone/a"), trainable("backbone/b"), norm("backbone/c", trainable=False)
    )
    violation = the_violation(RULE, known)
    assert layers_of(RULE, known) == ("backbone/a", "backbone/b")
    assert 'model.get_layer("backbone").get_layer("b"),' in violation.fix
    assert '"c"' not in violation.fix
