"""BNG208 on hand-made facts."""

from keras_bnguard.records import GraphContext, LostMask
from keras_bnguard.rules.bng208_mask_does_not_reach_batchnorm import (
    MaskDoesNotReachBatchnorm as RULE,
)
from tests.builders.facts import facts, norm, the_violation, violations

LOST = GraphContext(lost_mask=LostMask("masking", "conv1d"))


def test_it_names_who_makes_the_mask_and_who_drops_it():
    violation = the_violation(RULE, facts(norm("bn", graph_context=LOST), norm("other")))
    assert violation.layers == ("bn",)
    assert "without the mask of masking" in violation.message
    assert "conv1d does not propagate it" in violation.message


def test_silent_where_the_mask_arrives_and_in_inference_mode():
    assert not violations(RULE, facts(norm("bn")))
    assert not violations(RULE, facts(norm("bn", graph_context=LOST, trainable=False)))
