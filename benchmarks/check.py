"""What one check on demand costs, at as many BN and channels as ResNet50 has.

    BNGUARD_STACK=k3-jax python benchmarks/check.py [--checks 60]

53 BN with 26,560 channels, each behind a Dense layer of its own. `guard.check()` is timed in a
row, and once after each training step, which evicts what the check reads from the CPU cache.
Target: at most 1 ms.
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

WIDTHS = [64]
for filters, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
    WIDTHS += [filters, filters, 4 * filters] * blocks + [4 * filters]  # the last: its shortcut


def net() -> Any:
    layers = keras.layers
    inputs = keras.Input((4,))
    ends = [
        layers.Dense(1)(layers.BatchNormalization()(layers.Dense(width)(inputs)))
        for width in WIDTHS
    ]
    model = keras.Model(inputs, layers.Add()(ends))
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    return model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--checks", type=int, default=60)
    checks = parser.parse_args().checks
    model, guard = net(), bng.BNGuard(on_finding="log", select="BNG4")
    x = np.random.default_rng(0).random((64, 4)).astype("float32")
    in_a_row: List[float] = []
    after_a_step: List[float] = []
    with guard.watch(model):
        for found, steps in ((in_a_row, 0), (after_a_step, 1)):
            model.train_on_batch(x, x[:, :1])
            for _ in range(checks):
                for _ in range(steps):
                    model.train_on_batch(x, x[:, :1])
                started = time.perf_counter()
                guard.check()
                found.append((time.perf_counter() - started) * 1e3)
    print(f"{describe()}, {len(WIDTHS)} BN, {sum(WIDTHS)} channels")
    for what, found in (("in a row", in_a_row), ("after a step each", after_a_step)):
        print(f"  {what:18s} {statistics.median(found[5:]):5.2f} ms median of {checks}")


if __name__ == "__main__":
    main()
