"""What a phase does in its first epoch is compared with its plan."""

from __future__ import annotations

import warnings
from typing import Any, List

import pytest

import keras_bnguard as bng
from tests.builders import schedules as r
from tests.builders.schedules import L, keras

C = keras.callbacks


def reported(callbacks: Any, model: Any = None, epochs: int = 4, **settings: Any) -> List[str]:
    """The warnings of this package during one `fit`."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        r.fit(model or r.compiled(r.transfer()), epochs, callbacks, **settings)
    return [str(each.message) for each in found if issubclass(each.category, bng.BNGuardWarning)]


@pytest.mark.parametrize("first", [True, False])
def test_a_learning_rate_scheduler_of_the_same_fit_is_reported_and_its_order_is_nothing(first):
    theirs = C.LearningRateScheduler(lambda epoch: 0.005)
    ours = r.scheduler(r.head_then_all(2, 2))
    used = r.At(end=lambda model, epoch: r.learning_rate(model))
    listed = [theirs, ours] if first else [ours, theirs]
    messages = reported([*listed, used])
    assert len(messages) == 2
    assert all("LearningRateScheduler" in each for each in messages)
    assert ["'head'" in messages[0], "'all'" in messages[1]] == [True, True]
    assert used.seen == pytest.approx([0.005] * 4)


class SetsInEachEpoch(C.Callback):
    """A callback of the user's own."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.model.optimizer.learning_rate = 0.123


def test_any_callback_that_sets_the_learning_rate_is_reported():
    (message,) = reported([r.scheduler([bng.Phase("a", "*", 1e-3)]), SetsInEachEpoch()], epochs=2)
    assert [part in message for part in ("'a'", "0.123", "0.001")] == [True] * 3


@pytest.mark.parametrize(
    "phase",
    [
        bng.Phase("as compiled", train="*", epochs=2),
        bng.Phase("number", train="*", learning_rate=1e-3, epochs=2),
        bng.Phase("warm-up", train="*", learning_rate=1e-3, epochs=2, warmup=4),
        bng.Phase("decay", train="*", learning_rate=1e-3, epochs=2, layer_decay=0.5),
        bng.Phase("inference", train="*", learning_rate=1e-3, batch_norm="affine-only", epochs=2),
        bng.Phase("training", train="*", learning_rate=1e-3, batch_norm="train", epochs=2),
        bng.Phase("reset", train="*", learning_rate=1e-3, optimizer_state="reset", epochs=2),
    ],
    ids=lambda phase: phase.name,
)
def test_a_phase_that_runs_as_planned_is_silent(phase):
    schedule = [phase, bng.Phase("after", train="head*", learning_rate=bng.RelativeRate(0.5))]
    reduce = C.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    assert reported([r.scheduler(schedule), reduce]) == []


def test_a_compiled_schedule_is_silent():
    decay = keras.optimizers.schedules.ExponentialDecay(0.01, 3, 0.9)
    model = r.compiled(r.transfer(), "SGD", decay)
    assert reported([r.scheduler([bng.Phase("a", train="*", epochs=2)])], model) == []


def test_bn_in_training_mode_whose_statistics_stay_is_reported():
    class Unused(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = L.Dense(4, name="dense")
            self.bn = L.BatchNormalization(name="bn")
            self.out = L.Dense(1, activation="sigmoid", name="out")

        def call(self, x: Any, training: Any = None) -> Any:
            return self.out(self.bn(self.dense(x), training=False))

    model = Unused()
    model(r.data()[0])
    (message,) = reported([r.scheduler([bng.Phase("a", "*", 1e-3)])], r.compiled(model), epochs=2)
    assert "bn" in message


def test_reduce_on_plateau_during_a_warm_up_is_kept():
    reduce = C.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    used = r.At(end=lambda model, epoch: r.learning_rate(model))
    # It reduces after the second epoch at the earliest, in the middle of this warm-up.
    phase = bng.Phase("a", train="*", learning_rate=0.01, warmup=4 * r.STEPS)
    r.fit(r.compiled(r.transfer()), 4, [r.scheduler([phase]), used, reduce])
    assert used.seen == pytest.approx([0.0025, 0.005, 0.00375, 0.0025])


@pytest.mark.parametrize("first", [True, False])
def test_the_weights_of_early_stopping_win_over_those_of_the_phase(first):
    quality = iter([0.5, 0.3, 0.6, 0.4, 0.35, 0.45, 0.9, 0.9])
    kept = {}

    class Judge(C.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["q"] = next(quality)
            kept[epoch] = [w.tobytes() for w in self.model.get_weights()]

    phases = [
        bng.Phase("head", train="head*", learning_rate=0.02, epochs=3),
        bng.Phase(
            "all", train="*", learning_rate=0.004, until=bng.Plateau("q", patience=3),
            restore_best=True,
        ),
    ]  # fmt: skip
    ours = r.scheduler(phases)
    theirs = C.EarlyStopping("q", mode="min", patience=4, restore_best_weights=True)
    model = r.compiled(r.transfer())
    r.fit(model, 8, [Judge(), *([theirs, ours] if first else [ours, theirs])])
    ends = [w.tobytes() for w in model.get_weights()]
    assert [epoch for epoch, weights in kept.items() if weights == ends] == [1]
