"""BNG207 on hand-made facts."""

import pytest

from keras_bnguard.records import GraphContext, TimeSteps
from keras_bnguard.rules.bng207_batchnorm_inside_time_distributed import (
    BatchnormInsideTimeDistributed as RULE,
)
from tests.builders.facts import facts, norm, stack, the_violation, violations


def inside(steps=5, graph=False, **settings):
    graph_context = GraphContext(time_steps=TimeSteps("td", steps, graph))
    return norm("td/bn", graph_context=graph_context, **settings)


@pytest.mark.parametrize(
    ("on", "graph", "steps", "words"),
    [
        ("k3-jax", False, 5, "5 times"),
        ("k3-tf", True, None, "once per time step"),
        ("k2", False, 5, "once, over all frames"),
        ("tfk", True, 5, "twice"),
    ],
)
def test_it_reports_how_often_this_stack_updates(on, graph, steps, words):
    violation = the_violation(RULE, facts(inside(steps, graph), norm("bn"), on=stack(on)))
    assert violation.layers == ("td/bn",)
    assert f"{words} in every training step" in violation.message


def test_silent_for_norms_in_inference_mode():
    assert not violations(RULE, facts(inside(trainable=False)))
    assert not violations(RULE, facts(inside(forced_inference=True)))
