"""Phases as data: what is refused, and how a phase describes its end. No framework."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_bnguard.errors import BNGuardError, ScheduleError
from keras_bnguard.phases.conditions import Plateau, Threshold
from keras_bnguard.phases.fields import BatchNormMode, OptimizerState
from keras_bnguard.phases.learning_rates import RelativeRate
from keras_bnguard.phases.phase import Phase, check_phases
from keras_bnguard.phases.train_selectors import LastBlocks, LastLayers

NAN = float("nan")


# ---------------------------------------------------------------------- phases
class LearningRateSchedule:
    """Recognised by the name of its class, in every Keras."""


SCHEDULE = LearningRateSchedule()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"batch_norm": "frozen"}, r"phase 'p': batch_norm='frozen', expected one of 'inference'"),
        (
            {"optimizer_state": "keep"},
            r"phase 'p': optimizer_state='keep', expected one of 'carry'",
        ),
        ({"epochs": 0}, r"phase 'p': epochs=0, expected a positive integer"),
        ({"epochs": 2.0}, r"phase 'p': epochs=2.0, expected a positive integer"),
        ({"warmup": -1}, r"phase 'p': warmup=-1, expected a number of steps"),
        ({"restore_best": True}, r"phase 'p': restore_best=True needs until=Plateau"),
        ({"until": "val_loss"}, r"phase 'p': until='val_loss', expected .*Plateau"),
        ({"learning_rate": 0.0}, r"phase 'p': learning_rate=0.0, expected a positive number"),
        ({"learning_rate": -1}, r"phase 'p': learning_rate=-1, expected a positive number"),
        ({"learning_rate": NAN}, r"phase 'p': learning_rate=nan, expected a positive number"),
        ({"learning_rate": math.inf}, r"phase 'p': learning_rate=inf, expected a positive"),
        (
            {"learning_rate": LearningRateSchedule(), "warmup": 5},
            r"phase 'p': warmup together with a Learn",
        ),
    ],
)
def test_a_wrong_argument_is_an_error_that_names_the_phase(arguments, text):
    with pytest.raises(ScheduleError, match=text):
        Phase("p", train="*", **arguments)


def test_a_schedule_error_is_a_value_error_of_this_package():
    with pytest.raises(ValueError, match="epochs"):
        Phase("p", train="*", epochs=-1)
    assert issubclass(ScheduleError, BNGuardError)


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (Phase("p", "*"), "end of fit"),
        (Phase("p", "*", epochs=1), "1 epoch"),
        (Phase("p", "*", epochs=3), "3 epochs"),
        (Phase("p", "*", until=Plateau(patience=2)), "val_loss flat for 2"),
        (Phase("p", "*", epochs=9, until=Plateau()), "9 epochs or val_loss flat for 3"),
        (Phase("p", "*", until=Threshold("val_accuracy", 0.9)), "val_accuracy >= 0.9"),
        (Phase("p", "*", until=Threshold("loss", 0.25)), "loss <= 0.25"),
        (Phase("p", "*", until=lambda epochs, logs: True), "<lambda>()"),
    ],
)
def test_a_phase_describes_when_it_ends(phase, words):
    assert phase.describe_end() == words


def test_a_phase_has_the_monitor_of_its_condition():
    assert Phase("p", "*", until=Plateau("val_auc")).monitor == "val_auc"
    assert Phase("p", "*", until=Threshold("loss", 1.0)).monitor == "loss"
    assert Phase("p", "*", until=lambda epochs, logs: True).monitor is None
    assert Phase("p", "*", epochs=2).monitor is None


# ----------------------------------------------------------------- check_phases
@pytest.mark.parametrize("nothing", [[], (), ["head"], [Phase("p", "*"), None]])
def test_a_schedule_is_a_list_of_phases(nothing):
    with pytest.raises(ScheduleError, match=r"expected a non-empty list of Phase.*For example"):
        check_phases(nothing)


def test_two_phases_cannot_share_a_name():
    twice = [Phase("b", "*", epochs=1), Phase("a", "*", epochs=1)] * 2
    with pytest.raises(ScheduleError, match="phases share a name: a, b"):
        check_phases(twice)


def test_only_the_last_phase_may_have_no_end():
    head, rest = Phase("head", "*"), Phase("all", "*")
    with pytest.raises(ScheduleError, match=r"'head' never ends, so 'all' is never reached"):
        check_phases([head, rest])
    assert check_phases([Phase("head", "*", epochs=1), rest])[1] is rest
    assert check_phases([Phase("head", "*", until=Plateau()), rest])[1] is rest


@given(st.lists(st.text(min_size=1), min_size=1, max_size=6, unique=True))
def test_phases_with_an_end_and_names_of_their_own_pass_unchanged(names):
    phases = [Phase(name, "*", learning_rate=RelativeRate(0.5), epochs=2) for name in names]
    assert check_phases(phases) == tuple(phases)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RelativeRate(-1),
        lambda: RelativeRate(float("nan")),
        lambda: LastLayers(0),
        lambda: LastLayers(True),
        lambda: LastBlocks(2.5),
        lambda: Plateau(patience=0),
        lambda: Plateau(patience=2.5),
        lambda: Plateau(mode="lowest"),
        lambda: Threshold("val_loss", 0.1, mode="lowest"),
        lambda: Phase("all", "*", learning_rate="1e-3"),
        lambda: Phase("all", "*", learning_rate=True),
        lambda: Phase("all", "*", epochs=True),
    ],
)
def test_values_that_only_seem_right_are_refused_at_once(make):
    with pytest.raises(ScheduleError, match="expected"):
        make()


def test_numbers_of_numpy_are_taken_as_pythons_own():
    phase = Phase("p", "*", learning_rate=np.float32(0.5), epochs=np.int64(3), warmup=np.int32(2))
    assert phase == Phase("p", "*", learning_rate=0.5, epochs=3, warmup=2)
    assert type(phase.learning_rate) is float
    assert type(phase.epochs) is type(phase.warmup) is int


@pytest.mark.parametrize("mode", list(BatchNormMode))
def test_a_mode_is_given_as_its_name_or_as_a_member(mode):
    named, member = Phase("p", "*", batch_norm=mode.value), Phase("p", "*", batch_norm=mode)
    assert named == member
    assert named.batch_norm is mode
    assert repr(named) == repr(member)
    assert f"batch_norm={mode.value!r}" in repr(named)


def test_the_optimizer_state_of_a_phase_is_a_member_or_none():
    assert Phase("p", "*").optimizer_state is None
    assert Phase("p", "*", optimizer_state="reset").optimizer_state is OptimizerState.RESET
