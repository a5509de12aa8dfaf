"""BNG703 on hand-made facts."""

from keras_bnguard.rules.bng703_steps_per_execution_hides_batches import (
    StepsPerExecutionHidesBatches as RULE,
)
from tests.builders.facts import facts, hits, norm, the_hit


def test_it_says_how_often_hooks_run():
    hit = the_hit(RULE, facts(norm("bn"), steps_per_execution=4))
    assert "looks every 4 batches" in hit.message
    assert not hit.layers


def test_silent_at_one():
    assert not hits(RULE, facts(norm("bn")))
