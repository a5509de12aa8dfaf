"""Phases as data, and the tracker that walks through them. No framework."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_bnguard.errors import BNGuardError, ScheduleError
from keras_bnguard.phases.cursor import Tracker
from keras_bnguard.phases.phase import Phase, Plateau, Threshold, check_phases, times

NAN = float("nan")
VALUES = st.lists(st.one_of(st.floats(-10, 10), st.just(NAN)), min_size=1, max_size=30)


def walk(phase, values, key="val_loss"):
    """The tracker after each value, as (over, wait, best), up to the end of the phase."""
    tracker, seen = Tracker(), []
    for value in values:
        tracker.epoch_done(phase, {key: value})
        seen.append((tracker.over, tracker.wait, tracker.best))
        if tracker.over:
            break
    return tracker, seen


# ---------------------------------------------------------------------- phases
class LearningRateSchedule:
    """Known by the name of its class, in every Keras."""


SCHEDULE = LearningRateSchedule()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"batch_norm": "frozen"}, r"phase 'p': batch_norm='frozen', expected one of inference"),
        ({"optimizer_state": "keep"}, r"phase 'p': optimizer_state='keep', expected 'carry' or"),
        ({"epochs": 0}, r"phase 'p': epochs=0, expected a positive integer"),
        ({"epochs": 2.0}, r"phase 'p': epochs=2.0, expected a positive integer"),
        ({"warmup": -1}, r"phase 'p': warmup=-1, expected a number of steps"),
        ({"restore_best": True}, r"phase 'p': restore_best=True needs until=Plateau"),
        ({"until": "val_loss"}, r"phase 'p': until='val_loss', expected Plateau"),
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
def test_a_phase_says_in_words_when_it_ends(phase, words):
    assert phase.ends == words


def test_a_phase_knows_what_it_watches():
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
    phases = [Phase(name, "*", learning_rate=times(0.5), epochs=2) for name in names]
    assert check_phases(phases) == tuple(phases)


# --------------------------------------------------------------------- tracker
def test_an_epoch_count_ends_a_phase():
    tracker, seen = walk(Phase("p", "*", epochs=3), [1.0] * 9)
    assert [over for over, _, _ in seen] == [False, False, True]
    assert tracker.epochs == 3


def test_a_plateau_ends_a_phase_after_its_patience():
    _, seen = walk(Phase("p", "*", until=Plateau(patience=2)), [3, 2, 2, 1, 1, 1, 0])
    assert [over for over, _, _ in seen] == [False] * 5 + [True]
    assert [wait for _, wait, _ in seen] == [0, 0, 1, 0, 1, 2]


def test_what_comes_first_ends_a_phase():
    phase = Phase("p", "*", epochs=3, until=Plateau(patience=2))
    assert len(walk(phase, [3, 2, 1, 0])[1]) == 3
    assert len(walk(phase, [1, 1, 1, 0])[1]) == 3
    assert len(walk(phase, [NAN, NAN, 1, 0])[1]) == 2


def test_a_change_below_min_delta_is_no_improvement():
    phase = Phase("p", "*", until=Plateau(patience=2, min_delta=0.5))
    tracker, seen = walk(phase, [3.0, 2.6, 2.5, 9.0])
    assert len(seen) == 3
    assert tracker.best == 3.0


@pytest.mark.parametrize("monitor", ["val_accuracy", "acc", "val_AUC", "f1", "Score"])
def test_some_names_are_better_when_larger(monitor):
    plateau = Plateau(monitor, patience=1)
    assert plateau.better(2.0, 1.0)
    assert not plateau.better(1.0, 2.0)
    assert Threshold(monitor, 0.5).reached(0.5)
    assert not Threshold(monitor, 0.5).reached(0.4)


@pytest.mark.parametrize(("mode", "larger"), [("max", True), ("min", False)])
def test_a_mode_goes_before_the_name(mode, larger):
    assert Plateau("val_accuracy", mode=mode).better(2.0, 1.0) == larger
    assert Threshold("val_loss", 1.0, mode=mode).reached(2.0) == larger


def test_an_unknown_mode_is_refused():
    with pytest.raises(ScheduleError, match=r"mode='up'.*'min', 'max' or 'auto'"):
        walk(Phase("p", "*", until=Plateau(mode="up")), [1.0, 2.0])


def test_nan_never_improves_and_reaches_nothing():
    tracker, _ = walk(Phase("p", "*", until=Plateau(patience=3)), [NAN, 2.0, NAN, NAN])
    assert (tracker.best, tracker.wait, tracker.over) == (2.0, 2, False)
    tracker, seen = walk(Phase("p", "*", until=Threshold("val_loss", 1.0)), [NAN, NAN, 0.5])
    assert [over for over, _, _ in seen] == [False, False, True]


def test_a_run_of_nan_uses_up_the_patience_and_leaves_no_best():
    tracker, seen = walk(Phase("p", "*", until=Plateau(patience=3)), [NAN] * 9)
    assert len(seen) == 3
    assert tracker.best is None


def test_a_threshold_ends_only_its_phase_when_reached():
    phase = Phase("p", "*", until=Threshold("val_accuracy", 0.9))
    _, seen = walk(phase, [0.5, 0.89, 0.9, 0.1], "val_accuracy")
    assert [over for over, _, _ in seen] == [False, False, True]


def test_a_function_gets_the_epochs_of_this_phase_and_a_copy_of_the_logs():
    calls = []

    def until(epochs, logs):
        calls.append((epochs, dict(logs)))
        logs.clear()
        return epochs == 2

    tracker, logs = Tracker(epochs=0), {"loss": 1.0}
    tracker.enter(1)
    for _ in range(2):
        tracker.epoch_done(Phase("p", "*", until=until), logs)
    assert calls == [(1, {"loss": 1.0}), (2, {"loss": 1.0})]
    assert tracker.over
    assert logs == {"loss": 1.0}


def test_what_a_function_returns_is_taken_as_true_or_false():
    tracker = Tracker()
    tracker.epoch_done(Phase("p", "*", until=lambda epochs, logs: None), {})
    assert tracker.over is False
    tracker.epoch_done(Phase("p", "*", until=lambda epochs, logs: 1), {})
    assert tracker.over is True


@pytest.mark.parametrize("until", [Plateau("val_acc"), Threshold("val_acc", 1.0)])
def test_a_missing_value_is_an_error_that_lists_what_there_is(until):
    with pytest.raises(ScheduleError, match=r"'top' watches 'val_acc'.*There are: acc, loss"):
        Tracker().epoch_done(Phase("top", "*", until=until), {"loss": 1, "acc": 2})
    with pytest.raises(ScheduleError, match="There are: none"):
        Tracker().epoch_done(Phase("top", "*", until=until), {})


def test_each_phase_is_judged_by_its_own_best():
    phase, tracker = Phase("p", "*", until=Plateau(patience=2)), Tracker()
    tracker.epoch_done(phase, {"val_loss": 0.1})
    tracker.enter(1)
    assert tracker == Tracker(phase=1)
    tracker.epoch_done(phase, {"val_loss": 5.0})
    assert tracker.improved
    assert (tracker.best, tracker.wait) == (5.0, 0)


def test_an_epoch_that_was_not_judged_counts_and_changes_nothing_else():
    phase, tracker = Phase("p", "*", epochs=3, until=Plateau(patience=1)), Tracker()
    tracker.epoch_done(phase, {"val_loss": 1.0})
    tracker.epoch_done(phase, {}, judged=False)
    assert (tracker.epochs, tracker.best, tracker.wait, tracker.over) == (2, 1.0, 0, False)
    tracker.epoch_done(phase, {}, judged=False)
    assert tracker.over


@given(VALUES, st.integers(1, 5), st.sampled_from(["min", "max"]), st.floats(0, 2))
def test_a_plateau_follows_its_definition(values, patience, mode, delta):
    sign = 1.0 if mode == "min" else -1.0
    phase = Phase("p", "*", until=Plateau(patience=patience, min_delta=delta, mode=mode))
    tracker, seen = walk(phase, values)
    best, flat, end = None, 0, None
    for number, value in enumerate(values, 1):
        if not math.isnan(value) and (best is None or sign * value < sign * best - delta):
            best, flat = value, 0
        else:
            flat += 1
        if flat >= patience:
            end = number
            break
    assert len(seen) == (end or len(values))
    assert tracker.over == (end is not None)
    assert (tracker.best, tracker.wait) == (best, flat)


@given(VALUES, st.integers(0, 30), st.integers(1, 4))
def test_resuming_from_the_written_state_equals_never_stopping(values, stop, patience):
    phase = Phase("p", "*", epochs=20, until=Plateau(patience=patience))
    whole, half = Tracker(), Tracker()
    whole.enter(2)
    half.enter(2)
    for number, value in enumerate(values):
        if number == stop:
            half = Tracker(**json.loads(json.dumps(half.as_dict())))
        for tracker in (whole, half):
            tracker.epoch_done(phase, {"val_loss": value})
        assert half == whole
        if whole.over:
            break


@given(st.integers(1, 5), st.integers(1, 12))
def test_a_phase_never_lasts_longer_than_its_epochs(patience, epochs):
    phase = Phase("p", "*", epochs=epochs, until=Plateau(patience=patience))
    assert len(walk(phase, [float(-i) for i in range(40)])[1]) == epochs


@pytest.mark.parametrize(
    "make",
    [
        lambda: times(-1),
        lambda: times(float("nan")),
        lambda: Plateau(patience=0),
        lambda: Plateau(mode="lowest"),
        lambda: Threshold("val_loss", 0.1, mode="lowest"),
        lambda: Phase("all", "*", learning_rate="1e-3"),
        lambda: Phase("all", "*", learning_rate=True),
        lambda: Phase("all", "*", epochs=True),
    ],
)
def test_values_that_only_look_right_are_refused_when_they_are_written(make):
    with pytest.raises(ScheduleError, match="expected"):
        make()


def test_numbers_of_numpy_are_taken_as_pythons_own():
    phase = Phase("p", "*", learning_rate=np.float32(0.5), epochs=np.int64(3), warmup=np.int32(2))
    assert phase == Phase("p", "*", learning_rate=0.5, epochs=3, warmup=2)
    assert type(phase.learning_rate) is float
    assert type(phase.epochs) is type(phase.warmup) is int
