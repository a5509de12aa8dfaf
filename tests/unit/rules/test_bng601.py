"""BNG601 with hand-made records."""

import pytest

from keras_bnguard.rules.bng601_optimizer_does_not_know_variable import (
    OptimizerDoesNotKnowVariable,
)
from tests.builders.facts import (
    adam,
    facts,
    norm,
    run,
    stack,
    the_violation,
    trainable_change,
    violations,
)

RULE = OptimizerDoesNotKnowVariable
UNKNOWN = ("backbone/bn/gamma", "backbone/bn/beta", "backbone/conv/kernel")


def test_it_names_the_layers_whose_variables_have_no_state():
    violation = the_violation(RULE, facts(norm("backbone/bn"), optimizer=adam(unknown=UNKNOWN)))
    assert violation.layers == ("backbone/bn", "backbone/conv")
    assert "Adam was built for other variables: 3 trainable variables unknown" in violation.message
    assert "backbone/bn/gamma" in violation.message
    assert "type(old).from_config(old.get_config())" in violation.fix


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("k2", "KeyError"),
        ("tfk", "KeyError"),
        ("k3-tf", "unknown variable"),
        ("k3-torch", "unknown variable"),
        ("k3-jax", "one to one"),
    ],
)
def test_it_reports_how_this_stack_will_fail(name, error):
    known = facts(on=stack(name), optimizer=adam(unknown=("kernel",)))
    violation = the_violation(RULE, known)
    assert error in violation.message
    assert violation.layers == ("kernel",)


def test_on_jax_a_frozen_variable_fails_as_well():
    stale = adam(stale=("bn/gamma",))
    violation = the_violation(RULE, facts(on=stack("k3-jax"), optimizer=stale))
    assert violation.layers == ("bn",)
    assert "1 of its own frozen since (no longer training: bn/gamma)" in violation.message


def test_elsewhere_a_frozen_variable_is_silent():
    for name in ("k2", "tfk", "k3-tf", "k3-torch"):
        assert not violations(RULE, facts(on=stack(name), optimizer=adam(stale=("bn/gamma",))))


def test_an_unbuilt_optimizer_is_silent():
    assert not violations(RULE, facts(optimizer=adam(built=False, unknown=UNKNOWN)))


def test_an_optimizer_that_knows_all_variables_is_silent():
    assert not violations(RULE, facts(optimizer=adam()))


def test_flags_changed_after_compile_are_left_to_bng101():
    known = facts(
        optimizer=adam(unknown=UNKNOWN),
        run=run(trainable_changes=(trainable_change("backbone", True),)),
    )
    explained = trainable_change("backbone", True, explained_by="BNG106")
    assert not violations(RULE, known)
    assert violations(
        RULE, facts(optimizer=adam(unknown=UNKNOWN), run=run(trainable_changes=(explained,)))
    )
