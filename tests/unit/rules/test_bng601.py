"""BNG601 with hand-made records."""

import pytest

from keras_bnguard.rules.bng601_optimizer_does_not_know_variable import (
    OptimizerDoesNotKnowVariable,
)
from tests.builders.facts import adam, facts, flip, hits, norm, run, stack, the_hit

RULE = OptimizerDoesNotKnowVariable
UNKNOWN = ("backbone/bn/gamma", "backbone/bn/beta", "backbone/conv/kernel")


def test_it_names_the_layers_whose_variables_have_no_slots():
    hit = the_hit(RULE, facts(norm("backbone/bn"), optimizer=adam(unknown=UNKNOWN)))
    assert hit.layers == ("backbone/bn", "backbone/conv")
    assert "Adam was built for other variables: 3 trainable variables unknown" in hit.message
    assert "backbone/bn/gamma" in hit.message
    assert "keras.optimizers.Adam.from_config(old.get_config())" in hit.fix


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
def test_it_says_how_this_stack_will_fail(name, error):
    known = facts(on=stack(name), optimizer=adam(unknown=("kernel",)))
    hit = the_hit(RULE, known)
    assert error in hit.message
    assert hit.layers == ("kernel",)


def test_on_jax_a_frozen_variable_fails_as_well():
    stale = adam(stale=("bn/gamma",))
    hit = the_hit(RULE, facts(on=stack("k3-jax"), optimizer=stale))
    assert hit.layers == ("bn",)
    assert "1 of its own frozen since (no longer training: bn/gamma)" in hit.message


def test_elsewhere_a_frozen_variable_is_silent():
    for name in ("k2", "tfk", "k3-tf", "k3-torch"):
        assert not hits(RULE, facts(on=stack(name), optimizer=adam(stale=("bn/gamma",))))


def test_an_unbuilt_optimizer_is_silent():
    assert not hits(RULE, facts(optimizer=adam(built=False, unknown=UNKNOWN)))


def test_an_optimizer_that_knows_all_variables_is_silent():
    assert not hits(RULE, facts(optimizer=adam()))


def test_flags_changed_after_compile_are_left_to_bng101():
    known = facts(optimizer=adam(unknown=UNKNOWN), run=run(flips=(flip("backbone", True),)))
    excused = flip("backbone", True, excused_by="BNG106")
    assert not hits(RULE, known)
    assert hits(RULE, facts(optimizer=adam(unknown=UNKNOWN), run=run(flips=(excused,))))


def test_it_is_silent_without_an_optimizer():
    assert not hits(RULE, facts(norm("bn")))
