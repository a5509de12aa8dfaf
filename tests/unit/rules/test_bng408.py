"""BNG408 on facts made by hand."""

from keras_bnguard.records import OutsideChange
from keras_bnguard.rules.bng408_statistics_changed_outside_training import (
    StatisticsChangedOutsideTraining as RULE,
)
from tests.builders.facts import facts, norm, run, the_violation, violations


def after(**changes):
    outside = OutsideChange(changes, calls=30, source="train.py:9")
    return facts(norm("a"), norm("b"), run=run(outside=outside))


def test_it_names_the_calls_their_line_and_what_changed():
    violation = the_violation(RULE, after(a=1.5, b=0.01))
    assert violation.layers == ("a", "b")
    assert violation.source == "train.py:9"
    assert "30 calls" in violation.message
    assert "1.5" in violation.message


def test_no_call_is_silent():
    assert not violations(RULE, facts(norm("a"), run=run()))
