"""Guard and phases in one `fit` with the callbacks that come with Keras.

What each of them does beside phases alone: tests/scenarios/phases/test_with_other_callbacks.py.
"""

from __future__ import annotations

import csv

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders import schedules as r
from tests.builders.values import as_array
from tests.stack import BACKEND, IS_KERAS3, keras

C = keras.callbacks
X, Y = r.data()


def raising(**settings):
    """Statistics of twelve steps have not converged yet, as expected: BNG301, BNG407."""
    return bng.BNGuard(on_finding="raise", **{"ignore": ["BNG301", "BNG407"], **settings})


def ours():
    return [raising(), r.scheduler(r.head_then_all(2, 2))]


def theirs(folder):
    found = [
        C.CSVLogger(str(folder / "log.csv")),
        C.EarlyStopping("val_loss", patience=9, restore_best_weights=True),
        C.ReduceLROnPlateau("val_loss", patience=9),
        C.ModelCheckpoint(str(folder / "{epoch}.weights.h5"), save_weights_only=True),
        C.BackupAndRestore(str(folder / "backup"), delete_checkpoint=False),
        C.TerminateOnNaN(),
    ]
    if BACKEND == "tensorflow":
        # Keras's own TensorBoard writes with TensorFlow; BNGuard(tensorboard=...) does not.
        found.append(C.TensorBoard(str(folder / "board")))
    return found


def test_all_of_them_at_once_train_the_same_weights(tmp_path):
    plain, full = r.compiled(r.transfer()), r.compiled(r.transfer())
    by_phases = r.fit(plain, 4, ours()[1:], validation_data=(X, Y))
    guard, phases = ours()
    done = r.fit(full, 4, [guard, *theirs(tmp_path), phases], validation_data=(X, Y))
    assert done.history["loss"] == by_phases.history["loss"]
    assert done.history["val_loss"] == by_phases.history["val_loss"]
    assert guard.report.steps == 4 * r.STEPS
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert float(rows[0]["bn_drift"]) > 0
    assert len(list(tmp_path.glob("*.weights.h5"))) == 4
    assert (tmp_path / "backup").exists()
    if BACKEND == "tensorflow":
        (events,) = (tmp_path / "board" / "train").glob("events*")
        assert b"epoch_bn_drift" in events.read_bytes()


def test_only_those_behind_the_guard_find_the_drift_in_the_logs(tmp_path):
    before, after = (C.CSVLogger(str(tmp_path / name)) for name in ("before.csv", "after.csv"))
    r.fit(r.compiled(r.transfer()), 1, [before, raising(), after])
    assert "bn_drift" not in (tmp_path / "before.csv").read_text()
    assert "bn_drift" in (tmp_path / "after.csv").read_text()


@pytest.mark.parametrize("verbose", [1, 2])
def test_the_progress_bar_is_as_without_the_guard_and_everybody_else_reads_the_drift(
    verbose, tmp_path, capsys
):
    def shown(*callbacks):
        done = r.fit(r.compiled(r.transfer()), 2, callbacks, verbose=verbose)
        return done.history, capsys.readouterr().out

    log = C.CSVLogger(str(tmp_path / "log.csv"))
    history, bar = shown(raising(), log)
    assert "loss" in bar
    assert "bn_drift" not in bar
    assert len(history["bn_drift"]) == 2
    assert "bn_drift" in (tmp_path / "log.csv").read_text()
    assert "bn_drift" in shown(raising(show_drift=True))[1]


def test_a_bar_of_the_users_own_is_left_as_it_was_also_by_a_fit_that_raises(capsys):
    class Raises(C.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyError("mine")

    bar = C.ProgbarLogger() if IS_KERAS3 else C.ProgbarLogger(count_mode="steps")
    done = r.fit(r.compiled(r.transfer()), 1, [raising(), bar], verbose=2)
    assert "bn_drift" not in capsys.readouterr().out
    assert len(done.history["bn_drift"]) == 1
    with pytest.raises(KeyError, match="mine"):
        r.fit(r.compiled(r.transfer()), 1, [raising(), bar, Raises()], verbose=2)
    assert "on_epoch_end" not in vars(bar)


def test_early_stopping_and_the_plateau_watch_the_drift():
    stop = C.EarlyStopping("bn_drift", mode="min", patience=1, min_delta=1e9)
    model = r.compiled(r.transfer())
    assert len(r.fit(model, 5, [raising(), stop]).epoch) == 2


if IS_KERAS3:

    @pytest.mark.parametrize(
        ("on_epoch", "first", "state"),
        [(False, True, "carry"), (True, False, "reset")],
    )
    def test_swap_ema_weights_beside_phases_keeps_training_as_it_is(on_epoch, first, state):
        def run(*callbacks):
            keras.utils.set_random_seed(1)
            model = r.compiled(r.transfer(), "SGD", use_ema=True, ema_momentum=0.9)
            return r.fit(model, 4, callbacks, validation_data=(X, Y)), model

        def scheduler():
            return r.scheduler(r.head_then_all(2, 2), optimizer_state=state)

        plain, without = run(scheduler())
        swap, again = C.SwapEMAWeights(swap_on_epoch=on_epoch), bng.Recalibrate(X, at="swaps")
        both = [swap, scheduler()] if first else [scheduler(), swap]
        done, model = run(raising(), *both, again)
        # On TensorFlow it swaps by adding and subtracting, which rounds.
        assert done.history["loss"] == pytest.approx(plain.history["loss"], rel=1e-5)
        assert done.history["val_loss"] != plain.history["val_loss"]
        trained = [[as_array(v) for v in m.trainable_variables] for m in (model, without)]
        for one, other in zip(*trained):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
