"""One of several processes of a scheduled run, which may be killed.

`python -m tests.builders.two_workers_killed FOLDER RANK STEP`: process RANK sends itself SIGKILL
before global step STEP. The end of each process goes to `end-RANK.npz` in FOLDER.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, List

import tests.stack as stack_under_test  # isort: skip - sets the environment first
import numpy as np

import keras_bnguard as bng
from keras_bnguard.backends.processes.place import current_place
from tests.builders.two_workers import build, connect, shard
from tests.stack import BACKEND, keras

EPOCHS = 6


class KillsItself(keras.callbacks.Callback):
    """SIGKILL before a step, counted over all epochs."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step, self._steps = step, 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._steps == self._step:
            os.kill(os.getpid(), signal.SIGKILL)
        self._steps += 1


def phases() -> List[bng.Phase]:
    """The second ends by what the processes agree on: each alone would judge otherwise."""
    return [
        bng.Phase("head", train="head", epochs=1, learning_rate=1e-3, batch_norm="train"),
        bng.Phase(
            "top",
            train=["head", "dense2", "bn2"],
            until=bng.Plateau("val_loss", patience=1, min_delta=0.3),
            epochs=3,
            batch_norm="train",
            restore_best=True,
        ),
        bng.Phase("all", train="*", learning_rate=1e-4, batch_norm="train"),
    ]


def data(rank: int) -> Any:
    """What this process trains on: its shard, or for `tf.distribute` a dataset of all rows."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        x = np.concatenate([shard(0)[:32], shard(1)])
        options = tf.data.Options()
        policy = tf.data.experimental.AutoShardPolicy.DATA
        options.experimental_distribute.auto_shard_policy = policy
        return tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(16).with_options(options)
    x = shard(rank)[:16]
    return np.concatenate([x, x, x]), np.concatenate([x, x, x])[:, :1]


def main(folder: Path, killed: int, step: int) -> None:
    strategy = connect()
    if strategy is None:
        model = build()
    else:
        with strategy.scope():
            model = build()
    rank = current_place(model).rank
    # Keras 3 knows nothing of other processes, so each needs a backup of its own.
    backup = folder / "backup" if BACKEND == "tensorflow" else folder / f"backup-{rank}"
    scheduler = bng.PhaseScheduler(phases(), state=folder / "state")
    callbacks: List[Any] = [scheduler, keras.callbacks.BackupAndRestore(str(backup))]
    if rank == killed:
        callbacks.append(KillsItself(step))
    fed = data(rank)
    fed = {"x": fed} if strategy is not None else {"x": fed[0], "y": fed[1], "batch_size": 16}
    validation = fed["x"] if strategy is not None else (fed["x"], fed["y"])
    model.fit(
        **fed, epochs=EPOCHS, verbose=0, shuffle=False, validation_data=validation,
        callbacks=callbacks,
    )  # fmt: skip
    weights = [np.asarray(value) for value in model.get_weights()]
    entered = [[each["epoch"], each["phase"]] for each in scheduler.history]
    np.savez(folder / f"end-{rank}.npz", *weights, history=np.array(json.dumps(entered)))
    if BACKEND == "torch":
        import torch

        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    assert stack_under_test.STACK
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
