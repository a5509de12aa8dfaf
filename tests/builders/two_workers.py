"""One of several processes that train together: `python -m tests.builders.two_workers FOLDER`.

Reports, plans and events go to FOLDER; what was measured goes to `result-RANK.json` there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List

import tests.stack as stack_under_test  # isort: skip - sets the environment first
import numpy as np

import keras_bnguard as bng
from keras_bnguard.backends.processes.place import Place, current_place
from tests.stack import BACKEND, IS_KERAS3, keras

ROWS = (48, 16)
"""Rows of each process: unequal shards."""


def connect() -> Any:
    """Connect this process with the others; returns the strategy of `tf.distribute`, or None."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.distribute.MultiWorkerMirroredStrategy()
    if BACKEND == "torch":
        import torch

        torch.distributed.init_process_group("gloo")
        return None
    import jax

    address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    count, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    jax.distributed.initialize(address, count, rank)
    return None


def build() -> Any:
    keras.utils.set_random_seed(1)
    layers = keras.layers
    inputs = keras.Input((4,), name="inputs")
    x = layers.Dense(5, name="dense")(inputs)
    x = layers.BatchNormalization(name="bn1")(x)
    x = layers.Dense(3, activation="relu", name="dense2")(x)
    x = layers.BatchNormalization(name="bn2")(x)
    model = keras.Model(inputs, layers.Dense(1, name="head")(x), name="net")
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    return model


def all_rows() -> np.ndarray:
    """The rows of all processes: those of the second are far from those of the first."""
    rng = np.random.default_rng(0)
    parts = [rng.normal(3.0 * k, 1.0 + k, (rows, 4)) for k, rows in enumerate(ROWS)]
    return np.concatenate(parts).astype("float32")


def shard(rank: int) -> np.ndarray:
    return np.split(all_rows(), [ROWS[0]])[rank]


def fit_with_everything(model: Any, place: Place, folder: Path) -> None:
    """A `fit` with each callback that prints or writes."""
    x = all_rows()
    phases = [
        bng.Phase("head", train="head", epochs=1, learning_rate=1e-3, batch_norm="train"),
        bng.Phase("all", train="*", epochs=1, learning_rate=1e-4, batch_norm="train"),
    ]
    guard = bng.BNGuard(
        report=str(folder / "report.json"), tensorboard=str(folder / "events"), verbose=1
    )
    callbacks = [
        guard,
        bng.PhaseScheduler(phases, state=folder / "state"),
        bng.Recalibrate(x, batch_size=16, verbose=1),
    ]
    model.fit(x, x[:, :1], batch_size=16, epochs=2, verbose=0, callbacks=callbacks)
    assert not guard.faults, guard.faults


def recalibrated(model: Any, rank: int) -> Dict[str, Any]:
    """Statistics of shards pooled over the processes, and of all rows in each process."""
    found: Dict[str, Any] = {}
    before = statistics(model)
    for mode in ("one-pass", "sequential"):
        done = bng.recalibrate(model, shard(rank), mode=mode, batch_size=16)
        found[mode] = statistics(model)
        done.undo()
        assert statistics(model) == before
        done = bng.recalibrate(
            model, all_rows(), mode=mode, batch_size=16, all_rows_on_every_worker=True
        )
        found[f"{mode}, all rows"] = statistics(model)
        done.undo()
    rows = shard(rank)
    gap = bng.mode_gap(model, (rows, rows[:, :1]), batch_size=16)
    rows = all_rows()
    whole = bng.mode_gap(model, (rows, rows[:, :1]), batch_size=16, all_rows_on_every_worker=True)
    found["gap"] = [gap.rows, gap.gap(), whole.rows, whole.gap()]
    try:
        bng.recalibrate(model, shard(rank)[:, : 4 - rank], batch_size=16)
        found["error"] = ""
    except bng.DataError as error:
        found["error"] = str(error)
    assert statistics(model) == before
    return found


def statistics(model: Any) -> Dict[str, List[List[float]]]:
    """Moving mean and variance of each BN, of this process."""
    from keras_bnguard.backends.registry import backend_for

    values = backend_for(model).values
    found = {}
    for name in ("bn1", "bn2"):
        norm = model.get_layer(name)
        vectors = [values.to_numpy(v) for v in (norm.moving_mean, norm.moving_variance)]
        found[name] = [np.asarray(v, np.float64).tolist() for v in vectors]
    return found


def main(folder: Path) -> None:
    strategy = connect()
    if strategy is None:
        model = build()
    else:
        with strategy.scope():
            model = build()
    place = current_place(model)
    result: Dict[str, Any] = {"rank": place.rank, "count": place.count}
    if BACKEND != "tensorflow" or not IS_KERAS3:  # Keras 3 cannot: docs/distributed.md.
        fit_with_everything(model, place, folder)
    result["recalibrated"] = recalibrated(model, place.rank)
    (folder / f"result-{place.rank}.json").write_text(json.dumps(result))
    if BACKEND == "torch":
        import torch

        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    assert stack_under_test.STACK
    main(Path(sys.argv[1]))
