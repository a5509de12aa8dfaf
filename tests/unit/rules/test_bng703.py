"""BNG703 on hand-made facts."""

from keras_bnguard.rules.bng703_steps_per_execution_hides_batches import (
    StepsPerExecutionHidesBatches as RULE,
)
from tests.builders.facts import facts, norm, the_violation, violations


def test_it_reports_how_often_hooks_run():
    violation = the_violation(RULE, facts(norm("bn"), steps_per_execution=4))
    assert "checks every 4 batches" in violation.message
    assert not violation.layers


def test_silent_at_one():
    assert not violations(RULE, facts(norm("bn")))
