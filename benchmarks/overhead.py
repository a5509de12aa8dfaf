"""What the default guard costs per training step, as a ratio within one run.

    BNGUARD_STACK=k3-jax python benchmarks/overhead.py [--pairs 6] [--epochs 4] [--every 10]

An MLP of 50 x (Dense(64), BatchNormalization, ReLU) on 16 inputs, batch 32, 2048 rows: 64 short
steps an epoch, so that what an epoch's end costs is shared by few. Epochs with and without a
guard alternate on one model, so that a busy machine slows both; the first pair is left out.

Two figures. The ratio of whole epochs with and without has everything in it, and the noise of
the machine, which is often more than one percent. The share of an epoch that the guard's own
hooks take is far steadier, and is all there is: with `fix=False` the training step is Keras's
own. Target: at most 1 %.
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


class Timed(bng.BNGuard):
    """A guard that knows how long its own hooks took in each epoch."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.shares: List[float] = []
        self.spent: List[float] = []
        self._hooks = 0.0
        if self._counter.every:
            self.on_train_batch_begin = self._timed(self._on_batch_begin)

    def _timed(self, hook: Any) -> Any:
        def timed(*args: Any, **kwargs: Any) -> None:
            begin = time.perf_counter()
            hook(*args, **kwargs)
            self._hooks += time.perf_counter() - begin

        return timed

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._hooks, self._began = 0.0, time.perf_counter()
        self._timed(super().on_epoch_begin)(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._timed(super().on_epoch_end)(epoch, logs)
        self.shares.append(self._hooks / (time.perf_counter() - self._began - self._hooks))
        self.spent.append(self._hooks)


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

    shares: List[float] = []
    spent: List[float] = []

    def epochs(guarded: bool) -> List[float]:
        times = Times()
        # The guard comes first in the list: its epoch end is inside the time taken.
        guard = [Timed(every=every, on_finding="log", ignore="BNG301")] if guarded else []
        model.fit(
            x, y, batch_size=BATCH, epochs=options.epochs, verbose=0, callbacks=[*guard, times]
        )
        # The first epoch of a fit has its start-up in it (the audit, the first step).
        shares.extend(share for g in guard for share in g.shares[1:])
        spent.extend(seconds for g in guard for seconds in g.spent[1:])
        return times.seconds[1:]

    epochs(False), epochs(True)
    shares.clear(), spent.clear()
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
    hooks = f"{statistics.median(spent) * 1e3:.2f} ms an epoch of {steps} steps"
    if every == "epoch":  # Between batches a hook also waits for the device, as Keras would.
        print(f"  its hooks     {statistics.median(shares):+8.2%} median ({hooks})")
    print(f"  whole epochs  {watched / plain - 1:+8.2%} fastest, {middle:+.2%} median")


if __name__ == "__main__":
    main()
