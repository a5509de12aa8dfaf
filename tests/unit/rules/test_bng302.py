"""BNG302 on hand-made facts."""

import pytest

from keras_bnguard.records import NormKind
from keras_bnguard.rules.bng302_momentum_or_epsilon_out_of_range import (
    MomentumOrEpsilonOutOfRange as RULE,
)
from tests.builders.facts import facts, norm, the_violation, violations


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"momentum": 0.1}, "at momentum 0.1, 90 % is of the last batch alone"),
        ({"momentum": 0.0}, "at momentum 0, 100 % is of the last batch alone"),
        ({"momentum": 1.0}, "momentum 1 never updates"),
        ({"momentum": 0.99995}, "takes over 0.005 % of a batch"),
        ({"momentum": -0.1}, "run away"),
        ({"momentum": 1.01}, "run away"),
        ({"epsilon": 0.0}, "epsilon 0 divides by zero"),
        ({"epsilon": -1e-3}, "epsilon -0.001 divides"),
        ({"epsilon": 0.5}, "epsilon 0.5 shrinks"),
    ],
)
def test_it_reports_what_the_value_does(settings, words):
    violation = the_violation(RULE, facts(norm("a", **settings), norm("b")))
    assert violation.layers == ("a",)
    assert words in violation.message


@pytest.mark.parametrize("momentum", [0.5, 0.9, 0.99, 0.999, 0.9997])
def test_silent_for_values_that_are_used(momentum):
    for epsilon in (1e-5, 1e-3, 0.1):
        assert not violations(RULE, facts(norm("a", momentum=momentum, epsilon=epsilon)))


def test_momentum_does_not_matter_in_inference_mode_epsilon_does():
    assert not violations(RULE, facts(norm("a", momentum=0.0, trainable=False)))
    assert violations(RULE, facts(norm("a", epsilon=0.0, trainable=False)))


def test_silent_where_a_setting_is_not_known():
    assert not violations(RULE, facts(norm("a", momentum=None, epsilon=None)))


def test_the_fix_of_a_torch_module_sets_its_share_of_the_new_value():
    module = norm("net/wrapper/bn.1", momentum=1.0, kind=NormKind.TORCH, container="net")
    fix = the_violation(RULE, facts(module)).fix
    reached = 'model.get_layer("net").get_layer("wrapper").module.get_submodule("bn.1")'
    assert f"{reached}.momentum = 0.1" in fix


def test_at_momentum_1_the_fix_names_freezing():
    violation = the_violation(RULE, facts(norm("a", momentum=1.0), norm("b", momentum=0.1)))
    assert "fit and predict disagree" in violation.message
    assert "to keep the statistics of a as they are, freeze these BN" in violation.fix
    assert "freeze" not in the_violation(RULE, facts(norm("b", momentum=0.1))).fix
