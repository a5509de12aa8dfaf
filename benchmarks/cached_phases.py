"""`PhaseScheduler.fit` with features computed once, beside `model.fit` with the same schedule.

    BNGUARD_STACK=k3-jax python benchmarks/cached_phases.py [--epochs 20] [--rows 512] [--times 1]

A frozen MobileNetV2 of 96 pixels with BN statistics of the data (`recalibrate`), a Dense head, and
epochs of the head phase; batch 32. Both compile their step, and the pass over the trunk is in it.
The third column is what a user would write by hand: `predict` of the trunk, a head model on it,
its weights carried back. Targets: 5 times on TensorFlow, 10 on JAX, 20 on torch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any, Dict, List

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.stack import describe, keras  # isort: skip - sets the environment first

import numpy as np

import keras_bnguard as bng

PIXELS, CLASSES = 96, 10


def data(rows: int) -> Any:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (rows, PIXELS, PIXELS, 3)).astype("float32")
    return x, np.arange(rows) % CLASSES


def trunk(x: Any) -> Any:
    keras.utils.set_random_seed(0)
    base = keras.applications.MobileNetV2(
        input_shape=(PIXELS, PIXELS, 3), include_top=False, weights=None, pooling="avg"
    )
    bng.recalibrate(base, x[:128])
    base.trainable = False
    return base


def compiled(model: Any) -> Any:
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    return model


def with_head(base: Any) -> Any:
    inputs = keras.Input((PIXELS, PIXELS, 3))
    outputs = keras.layers.Dense(CLASSES, "softmax", name="head")(base(inputs))
    return compiled(keras.Model(inputs, outputs))


def schedule(epochs: int) -> bng.PhaseScheduler:
    return bng.PhaseScheduler([bng.Phase("head", train="head", epochs=epochs)], verbose=0)


def by_hand(model: Any, base: Any, x: Any, y: Any, epochs: int) -> None:
    features = base.predict(x, verbose=0)
    inputs = keras.Input(features.shape[1:])
    head = compiled(keras.Model(inputs, keras.layers.Dense(CLASSES, "softmax")(inputs)))
    head.fit(features, y, epochs=epochs, verbose=0)
    model.get_layer("head").set_weights(head.layers[-1].get_weights())


def measure(rows: int, epochs: int, times: int) -> Dict[str, List[float]]:
    """Seconds of each way, in turns."""
    x, y = data(rows)
    base = trunk(x)
    found: Dict[str, List[float]] = {"with": [], "without": [], "by hand": []}
    for _ in range(times):
        models = {name: with_head(base) for name in found}
        work = {
            "with": lambda m: schedule(epochs).fit(m, x, y, epochs=epochs, verbose=0),
            "without": lambda m: m.fit(
                x, y, epochs=epochs, verbose=0, callbacks=[schedule(epochs)]
            ),
            "by hand": lambda m: by_hand(m, base, x, y, epochs),
        }
        for name, run in work.items():
            started = time.perf_counter()
            run(models[name])
            found[name].append(time.perf_counter() - started)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--times", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found = measure(options.rows, options.epochs, options.times)
    middle = {name: statistics.median(each) for name, each in found.items()}
    print(f"{describe()}, {options.rows} rows, {options.epochs} epochs of the head")
    for name, each in middle.items():
        print(f"  {name:8s} {each:8.1f} s  {middle['without'] / each:6.1f} times as fast")


if __name__ == "__main__":
    main()
