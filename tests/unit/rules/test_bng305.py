"""BNG305 on hand-made facts."""

from keras_bnguard.rules.bng305_renorm import Renorm as RULE
from tests.builders.facts import facts, norm, the_violation, violations


def test_it_names_the_further_vectors():
    violation = the_violation(RULE, facts(norm("a", renorm=True), norm("b")))
    assert violation.layers == ("a",)
    assert "renorm_mean" in violation.message


def test_silent_for_plain_norms():
    assert not violations(RULE, facts(norm("b")))
