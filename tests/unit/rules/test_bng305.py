"""BNG305 on hand-made facts."""

from keras_bnguard.rules.bng305_renorm import Renorm as RULE
from tests.builders.facts import facts, hits, norm, the_hit


def test_it_names_the_further_vectors():
    hit = the_hit(RULE, facts(norm("a", renorm=True), norm("b")))
    assert hit.layers == ("a",)
    assert "renorm_mean" in hit.message


def test_silent_for_plain_norms():
    assert not hits(RULE, facts(norm("b")))
