"""BNG605 on hand-made facts."""

import pytest

from keras_bnguard.records import SkipKind
from keras_bnguard.rules.bng605_learning_rate_schedule_conflict import (
    LearningRateScheduleConflict as RULE,
)
from tests.builders.facts import adam, facts, skipped, stack, the_violation, violations


def known(on="k3-jax", **settings):
    return facts(on=stack(on), optimizer=adam(**{"learning_rate_is_schedule": True, **settings}))


@pytest.mark.parametrize(
    ("on", "writer", "words"),
    [
        ("k2", "ReduceLROnPlateau", "no effect"),
        ("tfk", "LearningRateScheduler", "no effect"),
        ("k3-tf", "LearningRateScheduler", "raises TypeError at the start of the first epoch"),
        ("k3-torch", "ReduceLROnPlateau", "raises TypeError at the first plateau"),
    ],
)
def test_it_reports_what_this_stack_does(on, writer, words):
    violation = the_violation(RULE, known(on, learning_rate_writers=(writer,), learning_rate=0.01))
    assert words in violation.message
    assert "(now 0.01)" in violation.message


def test_silent_with_one_or_the_other():
    assert not violations(RULE, known(learning_rate_writers=()))
    assert not violations(
        RULE, known(learning_rate_is_schedule=False, learning_rate_writers=("ReduceLROnPlateau",))
    )


def test_it_is_skipped_without_the_callbacks():
    assert skipped(RULE, known()) is SkipKind.NOT_KNOWN
    assert skipped(RULE, known(learning_rate_is_schedule=False)) is None
    assert skipped(RULE, known(learning_rate_writers=())) is None
