"""BNG209 on hand-made facts."""

from keras_bnguard.records import GraphContext
from keras_bnguard.rules.bng209_batchnorm_called_on_several_inputs import (
    BatchnormCalledOnSeveralInputs as RULE,
)
from tests.builders.facts import call, facts, norm, the_violation, violations

TWICE = GraphContext(call_sites=2)


def test_it_counts_the_calls():
    violation = the_violation(
        RULE, facts(norm("tower/bn", graph_context=TWICE, momentum=0.9), norm("bn"))
    )
    assert violation.layers == ("tower/bn",)
    assert "up to 2 times (momentum 0.9 acts as 0.81)" in violation.message
    assert violations(RULE, facts(norm("bn", graph_context=TWICE, momentum=None)))


def test_silent_for_norms_in_inference_mode():
    for still in ({"trainable": False}, {"calls": (call(False), call(False))}):
        assert not violations(RULE, facts(norm("bn", graph_context=TWICE, **still)))
