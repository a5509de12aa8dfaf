"""BNG704 on hand-made facts."""

from dataclasses import replace

import pytest

from keras_bnguard.records import Surroundings
from keras_bnguard.rules.bng704_variance_convention_changed import (
    VarianceConventionChanged as RULE,
)
from tests.builders.facts import facts, hits, norm, stack, the_hit


def known(positions=1, on="k3-jax", saved_by="keras 2.15.0"):
    around = Surroundings(positions=positions)
    return facts(norm("bn", around=around), norm("b"), on=stack(on), saved_by=saved_by)


def test_it_says_by_how_much():
    hit = the_hit(RULE, known())
    assert hit.layers == ("bn",)
    assert "times 8/7, 14 % more" in hit.message
    assert (
        "16 values per channel" in the_hit(RULE, replace(known(), hyper={"batch_size": 16})).message
    )


def test_silent_with_many_values_and_where_nothing_changed():
    assert not hits(RULE, known(positions=4))
    assert not hits(RULE, known(positions=None))
    assert not hits(RULE, replace(known(), hyper={"batch_size": 32}))
    for on in ("k2", "tfk"):
        assert not hits(RULE, known(on=on))


@pytest.mark.parametrize("writer", ["keras 3.15.1", None])
def test_silent_for_files_of_keras_3_and_unknown_ones(writer):
    assert not hits(RULE, known(saved_by=writer))
    assert (RULE().cannot_look(known(saved_by=writer)) is None) == (writer is not None)
