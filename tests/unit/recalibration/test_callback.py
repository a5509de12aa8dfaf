"""`Recalibrate` in `fit`: when training ends, when averages are swapped, in any order."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.recalibration.callback import When
from keras_bnguard.records import Moment, MomentKind
from keras_bnguard.records.report import OutcomeStatus
from tests.builders.models import BN
from tests.builders.values import same
from tests.stack import IS_KERAS3, keras

L, C = keras.layers, keras.callbacks
RNG = np.random.default_rng(0)
X = (RNG.normal(size=(48, 6)) * 2 + 3).astype("float32")
Y = (X.sum(axis=1, keepdims=True) > 18).astype("float32")


def model_with(optimizer=None, frozen=False, **settings):
    inputs = keras.Input((6,))
    hidden = L.Dense(5, name="dense")(inputs)
    hidden = BN(name="bn", trainable=not frozen)(hidden)
    model = keras.Model(inputs, L.Dense(1, activation="sigmoid", name="out")(hidden))
    model.compile(optimizer or averaging(), "binary_crossentropy", **settings)
    return model


def averaging(learning_rate=0.05, momentum=0.9):
    return keras.optimizers.Adam(learning_rate, use_ema=True, ema_momentum=momentum)


def fit(model, *callbacks, **settings):
    settings = {"epochs": 2, "batch_size": 16, "verbose": 0, "shuffle": False, **settings}
    return model.fit(X, Y, callbacks=list(callbacks), **settings)


def statistics(model):
    return [np.array(value) for value in model.get_layer("bn").get_weights()[2:]]


def belongs(model, found=None):
    """Whether statistics are those of the data under the weights the model has now."""
    mean, variance = statistics(model) if found is None else found
    kernel, bias = model.get_layer("dense").get_weights()
    seen = X @ kernel + bias
    return np.allclose(mean, seen.mean(0), rtol=1e-3, atol=1e-3) and np.allclose(
        variance, seen.var(0), rtol=1e-3, atol=1e-3
    )


class Keeps(C.Callback):
    """What the model had when training ended, before or after those beside it in the list."""

    def on_epoch_end(self, epoch, logs=None):
        self.weights = [np.array(w) for w in self.model.get_weights()]

    def on_train_end(self, logs=None):
        self.final = [np.array(w) for w in self.model.get_weights()]


# --------------------------------------------------------------------- end of training
@pytest.mark.parametrize("guard_first", [True, False])
def test_averaged_weights_get_their_own_statistics_and_the_report_lists_it(guard_first, tmp_path):
    guard = bng.BNGuard(report=str(tmp_path / "r.json"))
    again = bng.Recalibrate(X)
    model = model_with()
    fit(model, *([guard, again] if guard_first else [again, guard]))
    assert belongs(model)
    assert "BNG603" not in guard.report.codes
    (line,) = guard.report.repairs
    assert "recalibrated" in line
    assert line in json.loads((tmp_path / "r.json").read_text())["repairs"]
    assert again.result.paths == ("bn",)


def test_without_it_the_statistics_are_of_other_weights_and_the_guard_reports_that():
    guard = bng.BNGuard(on_finding="log")
    model = model_with()
    fit(model, guard)
    assert not belongs(model)
    assert guard.report.codes == ("BNG603",)
    (finding,) = guard.report.findings
    assert finding.layers == ("bn",)
    assert finding.evidence["distance"] > 0.05
    assert finding.moment == Moment(MomentKind.TRAINING_END)


def test_undo_restores_the_statistics_of_training():
    plain, recalibrated, again = model_with(), None, bng.Recalibrate(X)
    weights = plain.get_weights()
    fit(plain)
    recalibrated = model_with()
    recalibrated.set_weights(weights)
    fit(recalibrated, again)
    assert not same(plain.get_weights(), recalibrated.get_weights())
    again.result.undo()
    assert same(plain.get_weights(), recalibrated.get_weights())


def test_plain_training_is_recalibrated_too_and_frozen_layers_are_not():
    model = model_with(keras.optimizers.SGD(0.01))
    fit(model, bng.Recalibrate(X))
    assert belongs(model)
    again, model = bng.Recalibrate(X), model_with(keras.optimizers.SGD(0.01), frozen=True)
    before = statistics(model)
    fit(model, again)
    assert again.result is None
    assert same(before, statistics(model))
    fit(model, bng.Recalibrate(X, layers="bn"))
    assert belongs(model)


@pytest.mark.parametrize("first", [True, False])
def test_weights_that_early_stopping_restores_get_their_statistics(first):
    stop = C.EarlyStopping("loss", patience=1, min_delta=1e9, restore_best_weights=True)
    again, kept = bng.Recalibrate(X), Keeps()
    model = model_with(keras.optimizers.SGD(0.05))
    done = fit(model, *([again, stop] if first else [stop, again]), kept, epochs=5)
    assert len(done.epoch) == 2
    assert belongs(model)
    assert not same(kept.weights, model.get_weights())


@pytest.mark.parametrize("first", [True, False])
def test_a_bn_that_a_phase_forces_into_inference_mode_is_not_recalibrated(first):
    model = model_with(keras.optimizers.SGD(0.01))
    model.get_layer("bn").set_weights([np.full(5, v, "float32") for v in (1, 0, 2, 3)])
    before = statistics(model)
    phases = bng.PhaseScheduler([bng.Phase("all", train="*", epochs=2)], verbose=0)
    again = bng.Recalibrate(X)
    fit(model, *([again, phases] if first else [phases, again]))
    assert again.result is None
    assert same(before, statistics(model))


def test_every_callback_is_called_once_per_hook_though_the_order_changes():
    calls = []

    class Notes(C.EarlyStopping):
        def on_train_begin(self, logs=None):
            super().on_train_begin(logs)
            calls.append("begin")

        def on_train_end(self, logs=None):
            calls.append("end")

    fit(model_with(), bng.Recalibrate(X), Notes("loss"), Notes("loss"))
    assert calls == ["begin", "begin", "end", "end"]


# ------------------------------------------------------------------------- swaps
if IS_KERAS3:

    @pytest.mark.parametrize(("first", "on_epoch"), [(True, True), (False, False)])
    def test_swapped_averages_get_statistics_while_training_goes_on_with_its_own(first, on_epoch):
        inside, outside = [], []

        class Records(C.Callback):
            def on_test_end(self, logs=None):
                inside.append(belongs(self.model))

            def on_epoch_begin(self, epoch, logs=None):
                outside.append(statistics(self.model))

        def run(*listed):
            keras.utils.set_random_seed(3)
            model = model_with()
            fit(model, *listed, epochs=3, validation_data=(X, Y))
            return model

        plain = run(Records(), C.SwapEMAWeights(swap_on_epoch=on_epoch))
        assert not any(inside)
        without, inside[:], outside[:] = list(outside), [], []
        swap, again = C.SwapEMAWeights(swap_on_epoch=on_epoch), bng.Recalibrate(X, at="swaps")
        model = run(*([again, Records(), swap] if first else [Records(), swap, again]))
        assert inside == [True, True, True]
        if not on_epoch:
            assert all(same(a, b) for a, b in zip(outside, without))
        assert belongs(model)
        assert not belongs(plain)
        assert "_swap_variables" not in vars(swap)


def test_the_watch_on_swaps_ends_with_a_fit_that_raises():
    class Fails(C.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise ZeroDivisionError

    again, swap = bng.Recalibrate(X, at="swaps"), None
    listed = [again, Fails()]
    if IS_KERAS3:
        swap = C.SwapEMAWeights()
        listed.insert(0, swap)
    model = model_with()
    with pytest.raises(ZeroDivisionError):
        fit(model, *listed)
    assert swap is None or "_swap_variables" not in vars(swap)


# ------------------------------------------------------------------------ silence
def test_the_guard_is_silent_where_nothing_is_stale():
    unchanged = {
        "no averages": (model_with(keras.optimizers.Adam(0.05)), ()),
        "slow": (model_with(averaging(learning_rate=1e-5)), ()),
        "best epoch": (
            model_with(),
            (C.EarlyStopping("loss", min_delta=1e9, patience=1, restore_best_weights=True),),
        ),
    }
    for name, (model, others) in unchanged.items():
        guard = bng.BNGuard(on_finding="raise", select="BNG603")
        fit(model, guard, *others)
        outcome = next(o for o in guard.report.outcomes if o.code == "BNG603")
        assert outcome.status is OutcomeStatus.PASSED, name


def test_bad_input_gets_one_clear_error():
    with pytest.raises(bng.SettingError, match="'swaps'"):
        bng.Recalibrate(X, at="epoch end")
    with pytest.raises(bng.SettingError, match="one-pass"):
        bng.Recalibrate(X, mode="quick")
    with pytest.raises(bng.DataError, match="only once"):
        bng.Recalibrate(iter([X]))


def test_it_survives_copies_and_is_a_keras_callback():
    again = bng.Recalibrate(X, at="swaps", max_batches=2)
    assert isinstance(again, C.Callback)
    for other in (copy.deepcopy(again), pickle.loads(pickle.dumps(again))):
        assert other._when is When.SWAPS
        assert other._plan == again._plan
