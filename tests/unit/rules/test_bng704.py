"""BNG704 on hand-made facts."""

from dataclasses import replace

import pytest

from keras_bnguard.records import GraphContext
from keras_bnguard.rules.bng704_variance_convention_changed import (
    VarianceConventionChanged as RULE,
)
from tests.builders.facts import facts, norm, skipped, stack, the_violation, violations


def known(positions=1, on="k3-jax", saved_by="keras 2.15.0"):
    graph_context = GraphContext(positions=positions)
    return facts(
        norm("bn", graph_context=graph_context), norm("b"), on=stack(on), saved_by=saved_by
    )


def test_it_reports_by_how_much():
    violation = the_violation(RULE, known())
    assert violation.layers == ("bn",)
    assert "times 8/7, 14 % more" in violation.message
    assert (
        "16 values per channel"
        in the_violation(RULE, replace(known(), fit_settings={"batch_size": 16})).message
    )


def test_silent_with_many_values_and_where_nothing_changed():
    assert not violations(RULE, known(positions=4))
    assert not violations(RULE, known(positions=None))
    assert not violations(RULE, replace(known(), fit_settings={"batch_size": 32}))
    for on in ("k2", "tfk"):
        assert not violations(RULE, known(on=on))


@pytest.mark.parametrize("writer", ["keras 3.15.1", None])
def test_silent_for_files_of_keras_3_and_unknown_ones(writer):
    assert not violations(RULE, known(saved_by=writer))
    assert (skipped(RULE, known(saved_by=writer)) is None) == (writer is not None)
