"""BNG605 on hand-made facts."""

import pytest

from keras_bnguard.rules.bng605_learning_rate_schedule_conflict import (
    LearningRateScheduleConflict as RULE,
)
from tests.builders.facts import adam, facts, hits, stack, the_hit


def known(on="k3-jax", **settings):
    return facts(on=stack(on), optimizer=adam(**{"rate_is_schedule": True, **settings}))


@pytest.mark.parametrize(
    ("on", "writer", "says"),
    [
        ("k2", "ReduceLROnPlateau", "no effect"),
        ("tfk", "LearningRateScheduler", "no effect"),
        ("k3-tf", "LearningRateScheduler", "raises TypeError at the begin of the first epoch"),
        ("k3-torch", "ReduceLROnPlateau", "raises TypeError at the first plateau"),
    ],
)
def test_it_says_what_this_stack_does(on, writer, says):
    hit = the_hit(RULE, known(on, rate_writers=(writer,), rate=0.01))
    assert says in hit.message
    assert "(now 0.01)" in hit.message


def test_silent_with_one_or_the_other():
    assert not hits(RULE, known(rate_writers=()))
    assert not hits(RULE, known(rate_is_schedule=False, rate_writers=("ReduceLROnPlateau",)))


def test_it_cannot_look_without_the_callbacks():
    assert "callbacks" in RULE().cannot_look(known())
    assert RULE().cannot_look(known(rate_is_schedule=False)) is None
    assert RULE().cannot_look(known(rate_writers=())) is None
