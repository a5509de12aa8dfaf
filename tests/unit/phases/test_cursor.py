"""The place in a schedule: epochs counted, phases entered, and found again without a file."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases.conditions import Plateau, Threshold
from keras_bnguard.phases.cursor import PhaseCursor, count_epochs
from keras_bnguard.phases.learning_rates import RelativeRate
from keras_bnguard.phases.phase import Phase

NAN = float("nan")
VALUES = st.lists(st.one_of(st.floats(-10, 10), st.just(NAN)), min_size=1, max_size=30)


def walk(phase, values):
    """The cursor after each value, as (over, memory), up to the end of the phase."""
    cursor, seen = PhaseCursor(), []
    for value in values:
        cursor.epoch_done(phase, {"val_loss": value})
        seen.append((cursor.over, dict(cursor.memory)))
        if cursor.over:
            break
    return cursor, seen


def test_an_epoch_count_ends_a_phase():
    cursor, seen = walk(Phase("p", "*", epochs=3), [1.0] * 9)
    assert [over for over, _ in seen] == [False, False, True]
    assert cursor.epochs == 3


def test_a_plateau_ends_a_phase_after_its_patience():
    _, seen = walk(Phase("p", "*", until=Plateau(patience=2)), [3, 2, 2, 1, 1, 1, 0])
    assert [over for over, _ in seen] == [False] * 5 + [True]
    assert [memory["wait"] for _, memory in seen] == [0, 0, 1, 0, 1, 2]


def test_what_comes_first_ends_a_phase():
    phase = Phase("p", "*", epochs=3, until=Plateau(patience=2))
    assert len(walk(phase, [3, 2, 1, 0])[1]) == 3
    assert len(walk(phase, [1, 1, 1, 0])[1]) == 3
    assert len(walk(phase, [NAN, NAN, 1, 0])[1]) == 2


@pytest.mark.parametrize("until", [Plateau("val_acc"), Threshold("val_acc", 1.0)])
def test_a_missing_metric_is_an_error_that_names_the_phase(until):
    with pytest.raises(ScheduleError, match=r"phase 'top': 'val_acc'.*There are: acc, loss"):
        PhaseCursor().epoch_done(Phase("top", "*", until=until), {"loss": 1, "acc": 2})
    with pytest.raises(ScheduleError, match="There are: none"):
        PhaseCursor().epoch_done(Phase("top", "*", until=until), {})


def test_each_phase_has_its_own_best():
    phase, cursor = Phase("p", "*", until=Plateau(patience=2)), PhaseCursor()
    cursor.epoch_done(phase, {"val_loss": 0.1})
    cursor.enter(1)
    assert cursor == PhaseCursor(phase=1)
    cursor.epoch_done(phase, {"val_loss": 5.0})
    assert cursor.improved
    assert cursor.memory == {"best": 5.0, "wait": 0}


def test_an_epoch_that_was_not_judged_counts_and_changes_nothing_else():
    phase, cursor = Phase("p", "*", epochs=3, until=Plateau(patience=1)), PhaseCursor()
    cursor.epoch_done(phase, {"val_loss": 1.0})
    cursor.epoch_done(phase, {}, judged=False)
    assert (cursor.epochs, cursor.memory, cursor.over) == (2, {"best": 1.0, "wait": 0}, False)
    assert not cursor.improved
    cursor.epoch_done(phase, {}, judged=False)
    assert cursor.over


@given(VALUES, st.integers(0, 30), st.integers(1, 4))
def test_resuming_from_the_written_place_equals_never_stopping(values, stop, patience):
    phase = Phase("p", "*", epochs=20, until=Plateau(patience=patience))
    whole, half = PhaseCursor(), PhaseCursor()
    whole.enter(2)
    half.enter(2)
    for number, value in enumerate(values):
        if number == stop:
            half = PhaseCursor(**json.loads(json.dumps(half.as_dict())))
        for cursor in (whole, half):
            cursor.epoch_done(phase, {"val_loss": value})
        assert half == whole
        if whole.over:
            break


@given(st.integers(1, 5), st.integers(1, 12))
def test_a_phase_never_lasts_longer_than_its_epochs(patience, epochs):
    phase = Phase("p", "*", epochs=epochs, until=Plateau(patience=patience))
    assert len(walk(phase, [float(-i) for i in range(40)])[1]) == epochs


def test_a_copy_moves_on_its_own():
    cursor = PhaseCursor(memory={"best": 1.0})
    copied = cursor.copy()
    copied.memory["best"] = 2.0
    copied.enter(3)
    assert cursor == PhaseCursor(memory={"best": 1.0})


# ------------------------------------------------------------- without a saved state
COUNTED = [Phase("a", "*", epochs=2), Phase("b", "*", epochs=3), Phase("c", "*")]


@pytest.mark.parametrize(
    ("epoch", "phase", "epochs", "over"),
    [(0, 0, 0, False), (1, 0, 1, False), (2, 0, 2, True), (3, 1, 1, False), (5, 1, 3, True),
     (9, 2, 4, False)],
)  # fmt: skip
def test_epoch_counts_alone_give_the_place(epoch, phase, epochs, over):
    assert count_epochs(COUNTED, epoch) == PhaseCursor(phase, epochs, over)


def test_a_place_behind_a_condition_needs_the_saved_state():
    phases = [Phase("a", "*", until=Plateau()), Phase("b", "*")]
    assert count_epochs(phases, 0) == PhaseCursor()
    with pytest.raises(ScheduleError, match=r"phase 'a'.*state after epoch 1.*Searched there\."):
        count_epochs(phases, 1, " Searched there.")


class LearningRateSchedule:
    """Recognised by the name of its class, in every Keras."""


def test_a_factor_of_a_schedule_needs_the_saved_state():
    phases = [
        Phase("a", "*", learning_rate=LearningRateSchedule(), epochs=1),
        Phase("b", "*", epochs=1),
        Phase("c", "*", learning_rate=RelativeRate(0.5)),
    ]
    assert count_epochs(phases, 1).phase == 0
    with pytest.raises(ScheduleError, match="'c' is a factor of where a LearningRateSchedule"):
        count_epochs(phases, 3)
    phases[1] = Phase("b", "*", learning_rate=1e-3, epochs=1)
    assert count_epochs(phases, 3).phase == 2
