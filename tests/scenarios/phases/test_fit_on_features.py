"""`PhaseScheduler.fit`: phases with a frozen trunk train on features, with the same weights."""

from __future__ import annotations

import os
import pathlib

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders.schedules import L, compiled, data, head_then_all, scheduler
from tests.builders.schedules import transfer as small_transfer
from tests.builders.values import weights
from tests.stack import BACKEND, IS_KERAS3, keras

X, Y = data()
VAL_X, VAL_Y = data(7)
VALIDATION = (VAL_X, VAL_Y)


def transfer(**settings):
    return compiled(small_transfer(**settings), metrics=["mse"])


def train(model, phases, cached, epochs=4, **settings):
    """Train; `cached` None is `model.fit` with the scheduler as a callback."""
    keras.utils.set_random_seed(3)
    made = scheduler(phases)
    settings = {"batch_size": 8, "shuffle": False, "verbose": 0, "epochs": epochs, **settings}
    if cached is None:
        callbacks = [*settings.pop("callbacks", []), made]
        return model.fit(X, Y, callbacks=callbacks, **settings), made
    return made.fit(model, X, Y, cache_features=cached, **settings), made


def assert_close(one, other, rtol=1e-3):
    """Equal up to float rounding, which differs by processor: 6e-5 was seen where others had 1e-6.

    Another order of the rows makes 1e-2.
    """
    for a, b in zip(weights(one), weights(other)):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-4)


@pytest.mark.parametrize("cached", [True, "auto", False])
def test_weights_and_history_are_those_of_the_schedule_on_the_data(cached):
    plain, other = transfer(), transfer()
    expected, _ = train(plain, head_then_all(2, 2), None, validation_data=VALIDATION)
    history, _ = train(other, head_then_all(2, 2), cached, validation_data=VALIDATION)
    assert_close(plain, other)
    assert history.epoch == expected.epoch == [0, 1, 2, 3]
    assert set(history.history) == set(expected.history)
    for key, values in expected.history.items():
        np.testing.assert_allclose(history.history[key], values, rtol=1e-3, err_msg=key)


def test_the_trunk_runs_once_per_row_and_not_in_the_head_phase(monkeypatch):
    model = transfer()
    called = []
    base = model.get_layer("backbone")
    own = base.call
    head = model.get_layer("head_dense")

    class Notes(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            base.__dict__["call"] = lambda *a, **k: called.append(epoch) or own(*a, **k)

        def on_epoch_end(self, epoch, logs=None):
            base.__dict__.pop("call", None)

    train(model, head_then_all(2, 1), True, epochs=3, callbacks=[Notes()])
    assert 2 in called
    assert not {0, 1} & set(called)
    assert head.built


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow begins a new order in each fit")
def test_shuffled_rows_come_in_the_order_of_the_schedule_on_the_data():
    plain, other = transfer(), transfer()
    train(plain, head_then_all(2, 2), None, shuffle=True)
    train(other, head_then_all(2, 2), True, shuffle=True)
    assert_close(plain, other)


@pytest.mark.filterwarnings("ignore:fit ends after 2 epochs")
def test_shuffled_rows_come_in_the_order_of_one_fit_per_phase():
    plain, other = transfer(), transfer()
    train(other, head_then_all(2, 2), True, shuffle=True)
    keras.utils.set_random_seed(3)
    made = scheduler(head_then_all(2, 2))
    for begin, end in ((0, 2), (2, 4)):
        plain.fit(X, Y, batch_size=8, verbose=0, epochs=end, initial_epoch=begin, callbacks=[made])
    assert_close(plain, other)


@pytest.mark.skipif(not IS_KERAS3, reason="Keras 2 draws Dropout from states nobody can set")
def test_dropout_in_the_head_draws_the_same_numbers():
    plain, other = transfer(dropout=0.4), transfer(dropout=0.4)
    train(plain, head_then_all(2, 2), None)
    train(other, head_then_all(2, 2), True)
    assert_close(plain, other)


def test_validation_split_sample_weights_and_class_weights_are_those_of_fit():
    plain, other = transfer(), transfer()
    more = {"validation_split": 0.25, "class_weight": {0: 1.0, 1: 3.0}}
    expected, _ = train(plain, head_then_all(1, 1), None, epochs=2, **more)
    history, _ = train(other, head_then_all(1, 1), True, epochs=2, **more)
    assert_close(plain, other)
    np.testing.assert_allclose(history.history["val_loss"], expected.history["val_loss"], rtol=1e-3)
    plain, other = transfer(), transfer()
    row_weights = np.linspace(0, 2, len(X)).astype("float32")
    train(plain, head_then_all(1, 1), None, epochs=2, sample_weight=row_weights)
    train(other, head_then_all(1, 1), True, epochs=2, sample_weight=row_weights)
    assert_close(plain, other)


def test_a_phase_that_trains_the_top_of_the_backbone_is_cut_inside_it():
    plain, other = transfer(), transfer()
    dense = [x.name for x in plain.get_layer("backbone").layers if isinstance(x, L.Dense)][-1]
    phases = [
        bng.Phase("top", train=["head*", f"backbone/{dense}", "backbone/bn2"], epochs=2),
        bng.Phase("all", train="*", learning_rate=1e-5, epochs=1),
    ]
    train(plain, phases, None, epochs=3)
    train(other, phases, True, epochs=3)
    assert_close(plain, other)


class Watch(keras.callbacks.Callback):
    """What a callback of the user sees of the model."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_begin(self, logs=None):
        self.seen.append("begin")

    def on_epoch_end(self, epoch, logs=None):
        predicted = self.model.predict(X, verbose=0)
        loss = self.model.evaluate(X, Y, verbose=0)[0]
        self.seen.append((predicted.shape, round(float(loss), 3)))

    def on_train_end(self, logs=None):
        self.seen.append("end")


def test_callbacks_see_one_training_of_the_whole_model(tmp_path):
    plain, other = transfer(), transfer()
    ours, theirs = Watch(), Watch()
    train(plain, head_then_all(2, 1), None, epochs=3, callbacks=[theirs])
    checkpoint = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.weights.h5"),
                                                 save_weights_only=True)  # fmt: skip
    train(other, head_then_all(2, 1), True, epochs=3, callbacks=[ours, checkpoint])
    assert [e for e in ours.seen if isinstance(e, str)] == ["begin", "end"]
    for one, two in zip(ours.seen, theirs.seen):
        if not isinstance(one, str):
            assert one[0] == two[0]
            assert one[1] == pytest.approx(two[1], abs=2e-3)
    assert len(os.listdir(tmp_path)) == 3
    restored = small_transfer()
    restored.load_weights(str(tmp_path / "3.weights.h5"))
    assert_close(restored, other)


def test_nothing_stays_on_the_model():
    model = transfer()
    layers = [model, *model.layers, *model.get_layer("backbone").layers]
    lists = [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in layers]
    own = set(model.__dict__)
    plain = transfer()
    train(plain, head_then_all(1, 1), None, epochs=2)
    train(model, head_then_all(1, 1), True, epochs=2)
    assert [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in layers] == lists
    assert set(model.__dict__) - own <= set(plain.__dict__)
    np.testing.assert_allclose(
        model.predict(X, verbose=0), plain.predict(X, verbose=0), rtol=1e-3, atol=1e-5
    )


@pytest.mark.filterwarnings("ignore::keras_bnguard.BNGuardWarning")  # A phase never began.
def test_early_stopping_ends_all_parts():
    model = transfer()
    stop = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=100.0)
    history, _ = train(model, head_then_all(3, 3), True, epochs=6, callbacks=[stop])
    assert history.epoch == [0, 1]


def test_a_plateau_ends_a_phase_on_features():
    phases = [
        bng.Phase("head", train="head*", until=bng.Plateau("loss", patience=1, min_delta=100.0)),
        bng.Phase("all", train="*", learning_rate=1e-5),
    ]
    plain, other = transfer(), transfer()
    _, expected = train(plain, phases, None, epochs=5)
    _, made = train(other, phases, True, epochs=5)
    assert [e["phase"] for e in made.history] == [e["phase"] for e in expected.history]
    assert_close(plain, other)


def two_layer(*between, name="drop"):
    inputs = keras.Input((6,))
    x = L.Dense(5, name="d1")(inputs)
    x = L.BatchNormalization(name="bn")(x)
    for layer in between:
        x = layer(x)
    x = L.Dense(5, name="d2")(x)
    outputs = L.Dense(1, activation="sigmoid", name="head")(x)
    return compiled(keras.Model(inputs, outputs))


class MinusBatchMean(L.Layer):
    def call(self, x):
        mean = keras.ops.mean if IS_KERAS3 else keras.backend.mean
        return x - mean(x, 0, keepdims=True)

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.parametrize(
    ("make", "settings", "named"),
    [
        (lambda: two_layer(L.Dropout(0.5, name="drop")), {}, "drop"),
        (lambda: two_layer(L.GaussianNoise(0.5, name="noise")), {}, "noise"),
        (lambda: two_layer(), {"batch_norm": "train"}, "bn"),
        (lambda: two_layer(MinusBatchMean(name="mixes")), {}, "other rows"),
    ],
)
def test_what_forbids_features_is_named_and_the_phase_trains_on_the_data(
    make, settings, named, capsys
):
    phases = [bng.Phase("head", train="head", learning_rate=0.01, epochs=2, **settings)]
    with pytest.raises(bng.ScheduleError, match=named):
        train(make(), phases, True, epochs=2)
    model = make()
    made = bng.PhaseScheduler(phases)
    made.fit(model, X, Y, epochs=2, batch_size=8, verbose=0)
    lines = [line for line in capsys.readouterr().out.splitlines() if "is not cached" in line]
    assert len(lines) == 1
    assert named in lines[0]
    assert [e["epoch"] for e in made.history] == [0, 1]


def test_a_data_set_is_not_cached_which_is_reported(capsys):
    class Batches(keras.utils.PyDataset if IS_KERAS3 else keras.utils.Sequence):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            rows = slice(index * 8, index * 8 + 8)
            return X[rows], Y[rows]

    made = bng.PhaseScheduler(head_then_all(1, 1))
    made.fit(transfer(), Batches(), epochs=2, verbose=0)
    assert "no phase is cached: x is Batches" in capsys.readouterr().out
    with pytest.raises(bng.ScheduleError, match="x is Batches"):
        made.fit(transfer(), Batches(), epochs=2, verbose=0, cache_features=True)


def test_files_of_features_are_found_again_and_removed_at_the_end(tmp_path):
    folder = tmp_path / "features"

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                raise KeyboardInterrupt

    model, plain = transfer(), transfer()
    made = scheduler(head_then_all(2, 2))
    settings = {"batch_size": 8, "shuffle": False, "verbose": 0, "epochs": 4}
    settings.update(cache_features=True, cache_folder=folder)
    with pytest.raises(KeyboardInterrupt):
        made.fit(model, X, Y, callbacks=[Stop()], **settings)
    kept = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(kept) == 2
    seen = []

    class Files(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                seen.append({p.name for p in folder.iterdir()})

    again = transfer()
    scheduler(head_then_all(2, 2)).fit(again, X, Y, callbacks=[Files()], **settings)
    assert seen == [set(kept)]
    assert not folder.exists()
    train(plain, head_then_all(2, 2), None)
    assert_close(plain, again)


def test_features_in_half_precision_are_half_as_large(tmp_path):
    sizes = {}
    for dtype in ("float16", None):

        class Files(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                for path in pathlib.Path(tmp_path, "f").glob("*.npy"):
                    sizes[dtype] = np.load(path).nbytes  # noqa: B023

        model, plain = transfer(), transfer()
        scheduler(head_then_all(1, 1)).fit(
            model, X, Y, epochs=2, batch_size=8, shuffle=False, verbose=0, callbacks=[Files()],
            cache_features=True, cache_folder=tmp_path / "f", cache_dtype=dtype,
        )  # fmt: skip
        train(plain, head_then_all(1, 1), None, epochs=2)
        assert_close(plain, model, rtol=2e-2)
    assert sizes["float16"] * 2 == sizes[None]


def test_a_run_that_is_stopped_goes_on_in_its_phase(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                raise KeyboardInterrupt

    plain, model, again = transfer(), transfer(), transfer()
    train(plain, head_then_all(2, 3), None, epochs=5)

    def backup():
        return keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))

    with pytest.raises(KeyboardInterrupt):
        train(model, head_then_all(2, 3), True, epochs=5, callbacks=[Stop(), backup()])
    history, made = train(again, head_then_all(2, 3), True, epochs=5, callbacks=[backup()])
    assert history.epoch == [3, 4]
    assert [e["phase"] for e in made.history] == ["all", "all"]
    assert_close(plain, again)


def test_a_guard_sees_one_training():
    guard = bng.BNGuard(on_finding=lambda finding: None)
    train(transfer(), head_then_all(2, 2), True, callbacks=[guard])
    other = bng.BNGuard(on_finding=lambda finding: None)
    train(transfer(), head_then_all(2, 2), None, callbacks=[other])
    assert guard.report.codes == other.report.codes


def test_warnings_of_whole_pipelines_watch_one_fit():
    bng.enable_warnings(on_finding=lambda finding: None)
    try:
        train(transfer(), head_then_all(1, 1), True, epochs=2)
    finally:
        bng.disable_warnings()


def test_a_value_that_is_none_of_the_three_is_refused():
    with pytest.raises(bng.ScheduleError, match="cache_features='yes'"):
        scheduler(head_then_all()).fit(transfer(), X, Y, cache_features="yes")
