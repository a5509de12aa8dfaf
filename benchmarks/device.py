"""What this package costs beside the same work without it: ratios, all of one run.

    make bench STACK=k3-jax             # on the CPU
    make bench-device STACK=k3-jax      # on whatever device is there, ResNet50 too

| row | with | without | target |
|---|---|---|---|
| check | `guard.check()` of 53 BN, 26,560 channels, after a step each | | 1 ms |
| one-step fit | `fit` of one step with a `BNGuard` | the same `fit` | |
| every=10 | epochs of a net of 50 BN, `every=10` | epochs with no guard | |
| ResNet50 | epochs of 6 steps with a `BNGuard` | epochs with no guard | 1.01 |
| recalibrate | one pass over the data, the second call | `predict` | 2.5 |
| mode_gap | two passes, the second call | `predict` | |
| precompute_features | one pass, the second call | `predict` | 1.5 |

Both sides of a ratio alternate and the fastest of each counts, so that a busy machine slows both.
The first call of each function is printed too: it compiles once.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.stack import describe, keras  # isort: skip - sets the environment first

import numpy as np

import keras_bnguard as bng
from benchmarks import check, overhead

Work = Callable[[], Any]


def seconds(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def alternating(pair: Tuple[Work, Work], times: int) -> Tuple[float, float]:
    """The fastest of each of two pieces of work, in seconds, taken in turns."""
    found: List[Tuple[float, float]] = [(seconds(pair[0]), seconds(pair[1])) for _ in range(times)]
    return min(first for first, _ in found), min(second for _, second in found)


def row(name: str, ours: float, plain: float, target: Optional[float] = None) -> None:
    ratio = ours / plain
    wanted = (
        "" if target is None else f"   target {target:g}: {'met' if ratio <= target else 'NOT'}"
    )
    print(f"  {name:20s} {ours:9.4f} s  {plain:9.4f} s  {ratio:7.2f}{wanted}", flush=True)


def convolutions(blocks: int = 8) -> Any:
    inputs = x = keras.Input((32, 32, 3))
    for block in range(blocks):
        x = keras.layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        if block % 3 == 2:
            x = keras.layers.MaxPooling2D()(x)
    outputs = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, outputs)


def compiled(model: Any) -> Any:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-3), loss)
    return model


def quiet_guard(**settings: Any) -> bng.BNGuard:
    return bng.BNGuard(on_finding="log", **settings)


def checks(times: int = 40) -> None:
    model, guard = check.net(), quiet_guard(select="BNG4")
    x = np.random.default_rng(0).random((64, 4)).astype("float32")
    found: List[float] = []
    with guard.watch(model):
        for _ in range(times):
            model.train_on_batch(x, x[:, :1])
            found.append(seconds(guard.check) * 1e3)
    middle = statistics.median(found[5:])
    met = "met" if middle <= 1 else "NOT"
    print(
        f"  {'check':20s} {middle:9.2f} ms, first {found[0]:.1f} ms   target 1: {met}", flush=True
    )


def fits(name: str, model: Any, data: Any, target: Optional[float] = None, **settings: Any) -> None:
    """Ratio of whole `fit` calls with and without a guard of these settings."""
    every = settings.pop("every", "epoch")

    def fit(guarded: bool) -> None:
        callbacks = [quiet_guard(every=every)] if guarded else []
        model.fit(*data, verbose=0, callbacks=callbacks, **settings)

    fit(False), fit(True)
    row(name, *alternating((lambda: fit(True), lambda: fit(False)), 4), target)


def passes(model: Any, x: Any, y: Any) -> None:
    predict: Work = lambda: model.predict(x, batch_size=32, verbose=0)  # noqa: E731
    ours: List[Tuple[str, Work, Optional[float]]] = [
        ("recalibrate", lambda: bng.recalibrate(model, x), 2.5),
        ("mode_gap", lambda: bng.mode_gap(model, (x, y), max_batches=len(x) // 32), None),
        ("precompute_features", lambda: bng.precompute_features(model, x), 1.5),
    ]
    for name, work, target in ours:
        model.trainable = name != "precompute_features"
        predict()
        first = seconds(work)
        row(name, *alternating((work, predict), 4), target)
        print(f"  {'':20s} {first:9.4f} s the first time", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--resnet", type=int, default=0, help="rows for ResNet50, 0 for none")
    parser.add_argument("--rows", type=int, default=960)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{describe()}: with, without, ratio")
    checks()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(options.rows, 32, 32, 3)).astype("float32")
    y = np.arange(len(x)) % 10
    features = rng.normal(size=(640, overhead.WIDTH)).astype("float32")
    narrow = (features, features[:, :1])
    fits("one-step fit", overhead.mlp(), narrow, batch_size=32, steps_per_epoch=1)
    fits("every=10", overhead.mlp(), narrow, batch_size=32, epochs=5, every=10)
    passes(compiled(convolutions()), x, y)
    if options.resnet:
        model = compiled(keras.applications.ResNet50(weights=None, classes=10))
        images = rng.normal(size=(options.resnet, 224, 224, 3)).astype("float32")
        labels = np.arange(len(images)) % 10
        settings = {"batch_size": max(1, options.resnet // 6), "epochs": 4}
        fits("ResNet50, 6 steps", model, (images, labels), 1.01, **settings)
        passes(model, images, labels)


if __name__ == "__main__":
    main()
