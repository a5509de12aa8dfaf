"""What the default guard costs per training step, as a ratio within one run.

    BNGUARD_STACK=k3-jax python benchmarks/overhead.py [--pairs 6] [--epochs 4] [--every 10]

An MLP of 50 x (Dense(64), BatchNormalization, ReLU) on 16 inputs, batch 32, 2048 rows. Epochs
with and without a guard alternate on one model, so that a busy machine slows both. An epoch's
begin and end belong to it; the first pair is left out. Target: at most 1 %.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any, List

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.stack import describe, keras  # isort: skip - sets the environment first

import numpy as np

import keras_bnguard as bng

DEPTH, ROWS, BATCH, WIDTH = 50, 2048, 32, 16


def mlp() -> Any:
    layers = [keras.Input((WIDTH,))]
    for _ in range(DEPTH):
        layers += [keras.layers.Dense(64), keras.layers.BatchNormalization()]
        layers += [keras.layers.ReLU()]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


class Times(keras.callbacks.Callback):
    """Seconds from the end of one epoch to the end of the next: what hooks cost is in it."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: List[float] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.last = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last = now


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--every", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, WIDTH)).astype("float32")
    y = x[:, :1]
    model, steps = mlp(), ROWS // BATCH
    every = options.every or "epoch"

    def epochs(guarded: bool) -> List[float]:
        times = Times()
        # The guard comes first in the list: its epoch end is inside the time taken.
        guard = [bng.BNGuard(every=every, on_finding="log")] if guarded else []
        model.fit(
            x, y, batch_size=BATCH, epochs=options.epochs, verbose=0, callbacks=[*guard, times]
        )
        # The first epoch of a fit has its start-up in it (the audit, the first step).
        return times.seconds[1:]

    epochs(False), epochs(True)
    without: List[float] = []
    with_: List[float] = []
    for pair in range(options.pairs):
        for guarded in (pair % 2 == 0, pair % 2 == 1):
            (with_ if guarded else without).extend(epochs(guarded))
    plain, watched = min(without) / steps * 1e3, min(with_) / steps * 1e3
    middle = statistics.median(with_) / statistics.median(without) - 1
    print(f"{describe()}, every={every}")
    print(f"  without guard {plain:8.3f} ms/step (fastest of {len(without)} epochs)")
    print(f"  with guard    {watched:8.3f} ms/step (fastest of {len(with_)} epochs)")
    print(f"  overhead      {watched / plain - 1:+8.2%} fastest, {middle:+.2%} median")


if __name__ == "__main__":
    main()
