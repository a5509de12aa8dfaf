"""A scheduled run in a process of its own, which may kill itself at a chosen step.

    python -m tests.builders.killed_run

For each line of standard input, a JSON list of jobs [FOLDER, CASE, STEP], starts a process per
job, all at once, and answers with the list of their exit codes, -9 for SIGKILL. They are forked
from one that has imported the framework and run nothing with it yet, which saves most of the
time. A job trains CASE with its files in FOLDER, sends itself SIGKILL before global step STEP
if that is not null, and else leaves `end.npz` with weights, optimizer and what each epoch logged.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

import keras_bnguard as bng
from tests.builders import schedules as r
from tests.stack import IS_KERAS3, keras

EPOCHS = 7


class KillsItself(keras.callbacks.Callback):
    """SIGKILL before a step, counted over all epochs; notes the state before the first step."""

    def __init__(self, step: Optional[int]) -> None:
        super().__init__()
        self._step, self._epoch = step, 0
        self.first: Dict[str, Any] = {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch
        self.first.setdefault("epoch", epoch)
        self.first.setdefault("trains", r.trainable_names(self.model))
        self.first.setdefault("learning_rate", r.learning_rate(self.model))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._step is not None and self._epoch * r.STEPS + batch >= self._step:
            os.kill(os.getpid(), signal.SIGKILL)


class DrawsFromEverything(keras.callbacks.Callback):
    """Adds a number of Python's and one of NumPy's global generator to the weights."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        noise = 1e-3 * (random.random() + np.random.random())
        self.model.set_weights([value + noise for value in self.model.get_weights()])


def phases(case: str) -> List[bng.Phase]:
    """Counts in the first, a plateau with warm-up and restored weights in the second."""
    return [
        bng.Phase("head", train="head*", learning_rate=2e-2, epochs=2),
        bng.Phase(
            "top",
            train=["head*", "backbone/dense2", "backbone/bn2"],
            learning_rate=bng.RelativeRate(0.5),
            until=bng.Plateau("val_loss", patience=2, min_delta=0.5),
            warmup=5,
            restore_best=True,
        ),
        bng.Phase("all", train="*", learning_rate=1e-3, optimizer_state="reset", layer_decay=0.7),
    ]


def build(case: str) -> Any:
    keras.utils.set_random_seed(1)
    model = r.transfer(dropout=0.3 if IS_KERAS3 else 0.0)
    if "legacy" in case:
        model.compile(keras.optimizers.legacy.Adam(0.5), "binary_crossentropy")
        return model
    return r.compiled(model, "SGD" if "SGD" in case else "Adam", 0.5)


def train(folder: Path, case: str, step: Optional[int]) -> Tuple[Any, Any, KillsItself]:
    model, kills = build(case), KillsItself(step)
    more = {"save_freq": 2} if "midway" in case else {}
    backup = keras.callbacks.BackupAndRestore(str(folder / "backup"), **more)
    schedule = r.scheduler(phases(case))
    listed = [backup, schedule] if "after" in case else [schedule, backup]
    log = keras.callbacks.CSVLogger(str(folder / "log.csv"), append=True)
    x, y = r.data(seed=1)
    draws = [DrawsFromEverything()] if "random" in case else []
    # Keras 2 orders the rows by a state of TensorFlow that nobody can read.
    shuffle = "random" in case and IS_KERAS3
    r.fit(model, EPOCHS, [*listed, *draws, log, kills], validation_data=(x, y), shuffle=shuffle)
    return model, schedule, kills


def main(folder: str, case: str, step: Optional[int]) -> None:
    warnings.simplefilter("error")
    for text in ("__array__ implementation", "non-integer arguments", r"\s*TensorFlow Addons"):
        warnings.filterwarnings("ignore", text)
    model, schedule, kills = train(Path(folder), case, step)
    arrays = [*r.weights(model), *r.optimizer_variables(model)]
    np.savez(Path(folder) / "end.npz", **{f"{i:04d}": a for i, a in enumerate(arrays)})
    rows = {"first": kills.first, "rows": schedule.history}
    (Path(folder) / "end.json").write_text(json.dumps(rows))


def start(job: List[Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        main(*job)
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def serve() -> None:
    warnings.filterwarnings("ignore", message=".*fork")  # JAX and Python, in case threads run.
    for line in sys.stdin:
        started = [start(job) for job in json.loads(line)]
        codes = [-os.WTERMSIG(s) if os.WIFSIGNALED(s) else os.WEXITSTATUS(s)
                 for s in (os.waitpid(pid, 0)[1] for pid in started)]  # fmt: skip
        print(json.dumps(codes), flush=True)


if __name__ == "__main__":
    serve()
