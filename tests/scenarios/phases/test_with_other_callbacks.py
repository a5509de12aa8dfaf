"""Keras's own callbacks in the same fit go on as if there were no phases."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import schedules as r
from tests.builders.schedules import keras

C = keras.callbacks


def test_history_metrics_and_progress_bar_run_through(capsys):
    model = r.compiled(r.transfer(), metrics=["mae"])
    done = r.fit(model, 4, [r.scheduler(r.head_then_all())], verbose=2)
    assert done.epoch == [0, 1, 2, 3]
    assert len(done.history["mae"]) == len(done.history["loss"]) == 4
    assert capsys.readouterr().out.count("Epoch ") == 4


def test_csv_logger_and_checkpoints(tmp_path):
    model = r.compiled(r.transfer())
    files = C.ModelCheckpoint(str(tmp_path / "{epoch}.weights.h5"), save_weights_only=True)
    log = C.CSVLogger(str(tmp_path / "log.csv"))
    r.fit(model, 4, [log, r.scheduler(r.head_then_all()), files])
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 5
    model.load_weights(tmp_path / "4.weights.h5")
    assert len(list(tmp_path.glob("*.h5"))) == 4


@pytest.mark.parametrize("first", [True, False])
def test_early_stopping_judges_the_whole_run(first):
    stop = C.EarlyStopping("loss", patience=1, min_delta=1e9)
    schedule = r.scheduler(r.head_then_all(1, 5))
    done = r.fit(r.compiled(r.transfer()), 6, [stop, schedule] if first else [schedule, stop])
    assert len(done.epoch) == 2


@pytest.mark.parametrize("first", [True, False])
def test_reduce_on_plateau_reduces_the_learning_rate_of_the_phase(first):
    reduce = C.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    schedule = r.scheduler(r.head_then_all(3, 2))
    seen = r.At(begin=lambda model, epoch: r.learning_rate(model))
    listed = [reduce, schedule] if first else [schedule, reduce]
    r.fit(r.compiled(r.transfer()), 5, [*listed, seen])
    assert seen.seen == pytest.approx([1e-2, 1e-2, 5e-3, 1e-5, 5e-6])


def test_backup_comes_after_the_scheduler_and_everyone_is_set_up(tmp_path):
    backup = C.BackupAndRestore(str(tmp_path / "b"))
    schedule = r.scheduler(r.head_then_all(1, 1))
    calls = []

    class Notes(C.Callback):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            calls.append((self.name, self.model is not None))

    r.fit(r.compiled(r.transfer()), 2, [Notes("a"), backup, Notes("b"), schedule, Notes("c")])
    assert calls[:3] == [("a", True), ("b", True), ("c", True)]
