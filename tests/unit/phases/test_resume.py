"""`ResumePoint`: a backup and a saved state give the first epoch, its phase, and its counts."""

from __future__ import annotations

import pytest

from keras_bnguard.backends.values.keras_backup import Backup
from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases.conditions import Plateau
from keras_bnguard.phases.cursor import PhaseCursor
from keras_bnguard.phases.fields import OptimizerState
from keras_bnguard.phases.phase import Phase
from keras_bnguard.phases.resuming.checkpoint import LearningRateState, SavedState
from keras_bnguard.phases.resuming.point import ResumePoint


def schedule(*states):
    """Phases of two epochs each, with these optimizer states."""
    return [Phase(f"p{i}", "*", epochs=2, optimizer_state=s) for i, s in enumerate(states)]


def saved(cursor, schedule_start=0):
    return SavedState(
        epoch=4,
        cursor=cursor,
        learning_rate=LearningRateState(1e-3, schedule_start=schedule_start),
        schedule=({"name": "p0"}, {"name": "p1"}),
        trains=(),
        pretrained=(),
        optimizer=[],
        random=[],
        best=[],
    )


def test_a_run_that_starts_at_epoch_0_is_at_the_start_of_its_first_phase():
    point = ResumePoint.find(schedule("carry", "carry"), Backup(0, False), None)
    assert (point.epoch, point.midway, point.cursor) == (0, False, PhaseCursor())
    assert point.start_of(0, 0) is None


def test_a_saved_state_gives_the_place_also_where_counting_could_not():
    cursor = PhaseCursor(phase=1, epochs=3, memory={"best": 0.5, "wait": 1})
    phases = [Phase("p0", "*", until=Plateau()), Phase("p1", "*", until=Plateau())]
    point = ResumePoint.find(phases, Backup(5, False), saved(cursor, schedule_start=70))
    assert point.cursor == cursor
    assert point.start_of(0, 0) == point.start_of(1, 99) == 70
    point.cursor.enter(0)
    assert cursor.phase == 1
    with pytest.raises(ScheduleError, match="state after epoch 5 is needed"):
        ResumePoint.find(phases, Backup(5, False), None)


def test_a_backup_inside_an_epoch_is_remembered():
    point = ResumePoint.find(schedule("carry", "carry"), Backup(2, True), None)
    assert point.midway
    assert point.cursor == PhaseCursor(phase=0, epochs=2, over=True)


@pytest.mark.parametrize(
    ("states", "epoch", "steps", "starts"),
    [
        (("carry", "carry", "carry"), 5, 50, [0, 20, 40]),
        (("carry", "carry", "carry"), 3, 30, [0, 20]),
        (("carry", "reset", "carry"), 5, 30, [0, 0, 20]),
        (("carry", "carry", "reset"), 5, 10, [0, 0, 0]),
        # A reset that has not been reached resets nothing.
        (("carry", "carry", "reset"), 3, 30, [0, 20]),
    ],
)
def test_without_a_state_phases_start_where_equally_long_epochs_put_them(
    states, epoch, steps, starts
):
    phases = schedule(*map(OptimizerState, states))
    point = ResumePoint.find(phases, Backup(epoch, False), None)
    assert [point.start_of(i, steps) for i in range(len(starts))] == starts


def test_without_a_state_a_new_optimizer_has_counted_nothing():
    point = ResumePoint.find(schedule("carry", "carry"), Backup(3, False), None)
    assert point.start_of(1, 0) is None
