"""BNG701 on hand-made facts."""

import pytest

from keras_bnguard.rules.bng701_per_replica_statistics import PerReplicaStatistics as RULE
from tests.builders.facts import facts, norm, stack, the_violation, violations


@pytest.mark.parametrize(
    ("on", "words"),
    [
        ("k2", "the average of the replicas"),
        ("tfk", "the average of the replicas"),
        ("k3-tf", "the first replica alone"),
        ("k3-torch", "what that process saw"),
    ],
)
def test_it_reports_what_this_stack_stores(on, words):
    violation = the_violation(RULE, facts(norm("bn"), on=stack(on), replicas=4))
    assert "4 replicas" in violation.message
    assert words in violation.message
    assert ("synchronized=True" in violation.fix) == (on != "k3-torch")


def test_silent_for_one_replica_and_for_synchronized_or_still_norms():
    assert not violations(RULE, facts(norm("bn")))
    assert not violations(RULE, facts(norm("bn", synchronized=True), replicas=2))
    assert not violations(RULE, facts(norm("bn", trainable=False), replicas=2))
