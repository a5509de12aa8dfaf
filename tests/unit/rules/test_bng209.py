"""BNG209 on hand-made facts."""

from keras_bnguard.records import Surroundings
from keras_bnguard.rules.bng209_batchnorm_called_on_several_inputs import (
    BatchnormCalledOnSeveralInputs as RULE,
)
from tests.builders.facts import call, facts, hits, norm, the_hit

TWICE = Surroundings(call_sites=2)


def test_it_counts_the_calls():
    hit = the_hit(RULE, facts(norm("tower/bn", around=TWICE, momentum=0.9), norm("bn")))
    assert hit.layers == ("tower/bn",)
    assert "up to 2 times (momentum 0.9 acts as 0.81)" in hit.message
    assert hits(RULE, facts(norm("bn", around=TWICE, momentum=None)))


def test_silent_for_norms_in_inference_mode():
    for still in ({"trainable": False}, {"calls": (call(False), call(False))}):
        assert not hits(RULE, facts(norm("bn", around=TWICE, **still)))
