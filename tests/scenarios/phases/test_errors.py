"""What cannot work is an error before the first step, and nothing of the model has changed."""

from __future__ import annotations

import warnings

import pytest

import keras_bnguard as bng
from tests.builders import schedules as r
from tests.builders.schedules import keras

ALL = bng.Phase("all", train="*", learning_rate=1e-3)


def fails(error: type, match: str, phases: object, model: object = None, **kwargs: object) -> None:
    model = r.compiled(r.transfer()) if model is None else model
    before, flags = r.weights(model), r.trainable_names(model)
    with pytest.raises(error, match=match):
        r.fit(model, 3, [r.scheduler(phases)], **kwargs)
    assert r.same(before, r.weights(model))
    assert flags == r.trainable_names(model)


def test_a_selector_that_matches_nothing_names_the_phase_and_near_misses():
    phases = [bng.Phase("top", train="haed*", epochs=1), ALL]
    fails(bng.SelectorError, r"phase 'top'.*haed.*head", phases)


def test_a_validation_monitor_without_validation_data():
    phases = [bng.Phase("top", train="head*", until=bng.Plateau("val_loss")), ALL]
    fails(bng.ScheduleError, "fit has no validation data", phases)


def test_a_learning_rate_that_a_compiled_schedule_would_override():
    decay = keras.optimizers.schedules.ExponentialDecay(1e-2, 3, 0.5)
    model = r.transfer()
    model.compile(keras.optimizers.SGD(decay), "mse")
    fails(bng.ScheduleError, "compiled with a LearningRateSchedule", [ALL], model)


def test_a_warm_up_that_would_rise_to_a_schedule():
    decay = keras.optimizers.schedules.ExponentialDecay(1e-2, 3, 0.5)
    phases = [
        bng.Phase("top", train="head*", learning_rate=decay, epochs=1),
        bng.Phase("all", train="*", warmup=3),
    ]
    fails(bng.ScheduleError, "phase 'all' has a warm-up and no learning rate", phases)


@pytest.mark.parametrize("scaled", [False, True])
def test_an_optimizer_that_cannot_be_created_again(scaled):
    class Special(keras.optimizers.SGD):
        def __init__(self, needed: int, **kwargs: object) -> None:
            super().__init__(**kwargs)
            self.needed = needed

    optimizer = Special(3)
    if scaled:
        home = keras.optimizers if r.IS_KERAS3 else keras.mixed_precision
        optimizer = home.LossScaleOptimizer(optimizer)
    model = r.transfer()
    model.compile(optimizer, "mse")
    match = "Special.*failed.*every argument that __init__ takes"
    fails(bng.ScheduleError, match, r.head_then_all(1, 1), model)


def test_a_learning_rate_that_is_a_function_would_override_that_of_the_phase():
    if not r.IS_KERAS3:
        pytest.skip("Keras 2 calls it once and keeps the number")
    model = r.transfer()
    model.compile(keras.optimizers.SGD(lambda: 0.01), "mse")
    fails(bng.ScheduleError, "compiled with a LearningRateSchedule or a function", [ALL], model)


def test_two_schedulers_in_one_fit():
    model = r.compiled(r.transfer())
    with pytest.raises(bng.ScheduleError, match="two PhaseSchedulers"):
        r.fit(model, 1, [r.scheduler([ALL]), r.scheduler([ALL])])


@pytest.mark.filterwarnings("ignore:training ended in phase")
def test_a_later_phase_that_monitors_what_is_not_logged_is_warned_of_after_one_epoch():
    phases = [bng.Phase("top", train="head*", epochs=1), bng.Phase("all", "*", until=WATCHES)]
    with pytest.warns(bng.BNGuardWarning, match=r"phase 'all' will monitor 'val_acc'.*val_loss"):
        r.fit(r.compiled(r.transfer()), 2, [r.scheduler(phases), Stops()], validation_data=r.data())


WATCHES = bng.Plateau("val_acc")


def test_a_phase_that_trains_nothing():
    phases = [bng.Phase("none", train="backbone/relu1", epochs=1), ALL]
    fails(bng.ScheduleError, "phase 'none' trains nothing", phases)


def test_a_model_that_is_not_built():
    model = keras.Sequential([keras.layers.Dense(2), keras.layers.BatchNormalization()])
    with pytest.raises(bng.ScheduleError, match="a built model"):
        bng.PhaseScheduler([ALL]).plan(model)


def test_a_container_that_owns_weights_and_is_not_selected():
    class Box(keras.layers.Layer):
        def __init__(self, **kwargs: object) -> None:
            super().__init__(**kwargs)
            self.inner = keras.layers.Dense(3, name="inner")

        def build(self, shape: object) -> None:
            self.scale = self.add_weight(shape=(3,), initializer="ones", name="scale")
            self.inner.build(shape)
            super().build(shape)

        def call(self, x: object) -> object:
            return self.inner(x) * self.scale

        def compute_output_shape(self, shape: object) -> object:
            return (shape[0], 3)

    inputs = keras.Input((6,))
    outputs = keras.layers.Dense(1, activation="sigmoid", name="out")(Box(name="box")(inputs))
    model = r.compiled(keras.Model(inputs, outputs))
    phases = [bng.Phase("some", train=["box/inner", "out"], epochs=1)]
    fails(bng.ScheduleError, "phase 'some': box owns weights and is not selected", phases, model)


def test_a_monitor_that_is_in_no_logs_lists_what_is():
    phases = [bng.Phase("top", train="head*", until=bng.Plateau("acc")), ALL]
    with pytest.raises(bng.ScheduleError, match=r"There are: .*loss"):
        r.fit(r.compiled(r.transfer()), 2, [r.scheduler(phases)])


def reported_by(phases: object, epochs: int, callbacks: object = (), **kwargs: object) -> object:
    """Texts of the warnings of two scheduled fits from one line of code."""
    texts = []
    for _ in range(2):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("default")
            r.fit(r.compiled(r.transfer()), epochs, [r.scheduler(phases), *callbacks], **kwargs)
        texts.append([str(w.message) for w in found if w.category is bng.BNGuardWarning])
    return texts


def test_a_fit_too_short_for_its_phases_is_one_warning_in_every_fit():
    phases = [bng.Phase("first", train="head*", epochs=5), *r.head_then_all(2, 1)]
    for texts in reported_by(phases, 1):
        (text,) = texts
        assert "before phase 'head' begins at epoch 6. Pass epochs=8 or more" in text
        assert "phases 'head', 'all' begin" in text
    assert reported_by(r.head_then_all(1, 1), 2) == [[], []]


class Stops(keras.callbacks.Callback):
    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.model.stop_training = True


@pytest.mark.parametrize("stopped", [False, True])
def test_a_phase_that_never_began_is_one_warning_in_every_fit(stopped):
    end = {"epochs": 1} if stopped else {"until": bng.Threshold("loss", -1.0)}
    phases = [bng.Phase("first", train="head*", **end), *r.head_then_all(1, 1)]
    for texts in reported_by(phases, 4 if stopped else 2, [Stops()] if stopped else []):
        (text,) = texts
        assert "training ended in phase 'first'" in text
        assert "phases 'head', 'all' never began" in text


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"batch_norm": "frozen"}, "batch_norm="),
        ({"epochs": 0}, "epochs="),
        ({"warmup": -1}, "warmup="),
        ({"learning_rate": 0.0}, "learning_rate="),
        ({"optimizer_state": "keep"}, "optimizer_state="),
        ({"restore_best": True}, "restore_best=True needs"),
        ({"until": 3}, "until="),
        ({"learning_rate": [1e-3]}, "learning_rate="),
        ({"learning_rate": lambda epoch: 1e-3}, "learning_rate="),
        ({"train": []}, "selects nothing"),
        ({"train": None}, "selects nothing"),
        ({"name": ""}, "name="),
    ],
)
def test_a_phase_names_the_wrong_value(settings, match):
    with pytest.raises(bng.ScheduleError, match=match):
        bng.Phase(**{"name": "x", "train": "*", **settings})


def test_phases_have_to_follow_one_another():
    with pytest.raises(bng.ScheduleError, match="never ends"):
        bng.PhaseScheduler([bng.Phase("a", train="*"), bng.Phase("b", train="*")])
    with pytest.raises(bng.ScheduleError, match="share a name"):
        bng.PhaseScheduler([bng.Phase("a", train="*", epochs=1), bng.Phase("a", train="*")])
    with pytest.raises(bng.ScheduleError, match="non-empty list"):
        bng.PhaseScheduler([])
    with pytest.raises(bng.ScheduleError, match="non-empty list"):
        bng.PhaseScheduler(ALL)


@pytest.mark.parametrize(
    ("freq", "epochs", "begin", "warned"),
    [
        (5, 4, 0, True),
        (4, 4, 0, False),
        (2, 3, 2, True),
        (2, 4, 2, False),
        ([1, 7], 4, 0, False),
        ([7], 4, 0, True),
        (1, 2, 0, False),
    ],
)
def test_a_validation_that_never_comes_is_reported_before_the_first_step(
    freq, epochs, begin, warned
):
    plateau = bng.Phase("p", train="head*", epochs=9, until=bng.Plateau("val_loss", 3))
    phases = [bng.Phase("first", train="head*", epochs=begin), plateau] if begin else [plateau]

    class Stops(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
            raise KeyboardInterrupt

    model = r.compiled(r.transfer())
    settings = {"validation_data": r.data(), "validation_freq": freq, "initial_epoch": begin}
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with pytest.raises(KeyboardInterrupt):
            r.fit(model, epochs, [r.scheduler(phases), Stops()], **settings)
    texts = [str(each.message) for each in found if each.category is bng.BNGuardWarning]
    assert any("phase 'p'" in text and "validation_freq" in text for text in texts) is warned


def test_a_function_that_fails_ends_training_with_an_error_that_names_its_phase():
    def ends(epochs: int, logs: object) -> bool:
        return logs["accuracy"] > 0.9

    phases = [bng.Phase("top", train="head*", until=ends), ALL]
    with pytest.raises(bng.ScheduleError, match=r"phase 'top'.*ends.*KeyError.*accuracy.*loss"):
        r.fit(r.compiled(r.transfer()), 3, [r.scheduler(phases)])


class Logs(keras.callbacks.Callback):
    """Adds a value that is no number to the logs of each epoch."""

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        logs["note"] = "bad"


def test_a_log_that_is_no_number_ends_training_only_where_a_phase_monitors_it():
    phases = [bng.Phase("top", "head*", until=bng.Plateau("note")), ALL]
    with pytest.raises(bng.ScheduleError, match=r"phase 'top': .*note"):
        r.fit(r.compiled(r.transfer()), 2, [Logs(), r.scheduler(phases)])
    schedule = r.scheduler([ALL])
    r.fit(r.compiled(r.transfer()), 1, [Logs(), schedule])
    assert schedule.history[0]["logs"]["note"] == "bad"
