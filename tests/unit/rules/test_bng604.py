"""BNG604 on hand-made facts."""

from dataclasses import replace

from keras_bnguard.rules.bng604_gradient_accumulation import GradientAccumulation as RULE
from tests.builders.facts import adam, facts, norm, the_violation, violations


def test_it_reports_by_how_many_rows_each_goes():
    known = facts(norm("a"), norm("b", trainable=False), optimizer=adam(accumulation=4))
    violation = the_violation(RULE, known)
    assert violation.layers == ("a",)
    assert "over 4 batches" in violation.message
    violation = the_violation(RULE, replace(known, fit_settings={"batch_size": 8}))
    assert "each batch of 8 rows, the weights by 32" in violation.message


def test_silent_without_accumulation_or_trainable_norms():
    assert not violations(RULE, facts(norm("a"), optimizer=adam()))
    still = norm("a", trainable=False)
    assert not violations(RULE, facts(still, optimizer=adam(accumulation=4)))
