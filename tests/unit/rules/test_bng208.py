"""BNG208 on hand-made facts."""

from keras_bnguard.records import LostMask, Surroundings
from keras_bnguard.rules.bng208_mask_does_not_reach_batchnorm import (
    MaskDoesNotReachBatchnorm as RULE,
)
from tests.builders.facts import facts, hits, norm, the_hit

LOST = Surroundings(lost_mask=LostMask("masking", "conv1d"))


def test_it_names_who_makes_the_mask_and_who_drops_it():
    hit = the_hit(RULE, facts(norm("bn", around=LOST), norm("other")))
    assert hit.layers == ("bn",)
    assert "without the mask of masking" in hit.message
    assert "conv1d does not hand it on" in hit.message


def test_silent_where_the_mask_arrives_and_in_inference_mode():
    assert not hits(RULE, facts(norm("bn")))
    assert not hits(RULE, facts(norm("bn", around=LOST, trainable=False)))
