"""A bad schedule is an error when it is made; what only shows later names the phase."""

from __future__ import annotations

import numpy as np
import pytest

from keras_bnguard.errors import BNGuardError, ScheduleError, SelectorError
from keras_bnguard.phases.conditions import Plateau, Threshold
from keras_bnguard.phases.cursor import PhaseCursor
from keras_bnguard.phases.phase import Phase
from keras_bnguard.phases.scheduler import PhaseScheduler

NAN = float("nan")


@pytest.mark.parametrize("value", ["x", None, NAN, True, [1]])
def test_a_threshold_is_a_number(value):
    with pytest.raises(ScheduleError, match="Threshold: value="):
        Threshold("loss", value)


@pytest.mark.parametrize("delta", ["x", None, NAN, True])
def test_the_smallest_change_of_a_plateau_is_a_number(delta):
    with pytest.raises(ScheduleError, match="Plateau: min_delta="):
        Plateau("loss", min_delta=delta)


@pytest.mark.parametrize("monitor", ["", 3, None])
def test_a_monitor_is_a_text(monitor):
    with pytest.raises(ScheduleError, match="monitor="):
        Plateau(monitor)


def none() -> bool:
    return True


def one(epochs: int) -> bool:
    return True


def three(epochs: int, logs: object, more: int) -> bool:
    return True


def two(epochs: int, logs: object, more: int = 3) -> bool:
    return epochs >= 2


@pytest.mark.parametrize("until", [none, one, three, 3, "plateau", Plateau, dict])
def test_until_that_is_no_function_of_two_arguments(until):
    with pytest.raises(ScheduleError, match=r"phase 'p'.*until"):
        Phase("p", "*", until=until)


@pytest.mark.parametrize("until", [two, lambda *each: True, max, lambda n, logs: n > 2])
def test_until_that_takes_two_arguments(until):
    assert Phase("p", "*", until=until).condition is not None


@pytest.mark.parametrize(
    ("train", "error"),
    [
        (None, ScheduleError),
        ([], ScheduleError),
        (set(), ScheduleError),
        ("", SelectorError),
        ("re:", SelectorError),
        ("re:[", SelectorError),
        (["head*", "re:("], SelectorError),
        (3, SelectorError),
        (["head*", None], SelectorError),
    ],
)
def test_train_that_cannot_select_anything_in_any_model(train, error):
    with pytest.raises(error, match="phase 'p'"):
        Phase("p", train)


@pytest.mark.parametrize("folder", [3, ["a"], object()])
def test_a_state_folder_is_a_path(folder):
    with pytest.raises(ScheduleError, match="state="):
        PhaseScheduler([Phase("p", "*")], state=folder)


# ----------------------------------------------------------- what only shows in training
def fails(epochs: int, logs: object) -> bool:
    raise ZeroDivisionError("no batches")


@pytest.mark.parametrize(
    ("until", "logs", "named"),
    [
        (fails, {"loss": 1.0}, ["fails", "ZeroDivisionError", "no batches"]),
        (lambda n, logs: logs["acc"] > 0.5, {"loss": 1.0}, ["KeyError", "acc", "loss"]),
        (lambda n, logs: np.array([True, False]), {"loss": 1.0}, ["ValueError"]),
        (Plateau("state"), {"state": "good"}, ["'state'", "'good'", "no number"]),
        (Threshold("state", 1), {"state": None}, ["'state'", "None", "no number"]),
        (Plateau("f1"), {"f1": np.zeros(3)}, ["'f1'", "3 values"]),
        (Plateau("acc"), {"loss": 1.0}, ["'acc'", "loss"]),
    ],
)
def test_a_condition_that_fails_is_an_error_that_names_the_phase(until, logs, named):
    phase = Phase("top", "*", until=until)
    with pytest.raises(ScheduleError) as raised:
        PhaseCursor().epoch_done(phase, logs)
    text = str(raised.value)
    assert text.startswith("phase 'top': ")
    assert [part for part in named if part not in text] == []


def test_the_error_of_a_function_of_the_user_is_the_cause():
    with pytest.raises(BNGuardError) as raised:
        PhaseCursor().epoch_done(Phase("top", "*", until=fails), {})
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
