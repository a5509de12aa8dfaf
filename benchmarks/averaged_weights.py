"""How stale moving statistics are under averaged weights: where BNG603's limit comes from.

Digits, three convolutions, several learning rates and `ema_momentum`. For each run: the distance
of averages and weights at the last epoch end, accuracy of the averages with the statistics of
training and with
new ones, and how far those differ, in standard deviations.

KERAS_BACKEND=jax python benchmarks/averaged_weights.py [--epochs 4 16]
"""

from __future__ import annotations

import argparse
from typing import Any, Tuple

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_bnguard as bng

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
LEARNING_RATES = {"Adam": (1e-2, 1e-3, 1e-4), "SGD": (0.3, 0.05)}


def digits() -> Tuple[Any, Any]:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return (x[order] / 16.0).astype("float32").reshape(-1, 8, 8, 1), y[order]


def network() -> Any:
    inputs = outputs = keras.Input((8, 8, 1))
    for _ in range(3):
        outputs = keras.layers.Conv2D(16, 3, padding="same", use_bias=False)(outputs)
        outputs = keras.layers.BatchNormalization(momentum=0.9)(outputs)
        outputs = keras.layers.ReLU()(outputs)
    outputs = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(outputs))
    return keras.Model(inputs, outputs)


class Distance(keras.callbacks.Callback):
    """norm(average - weights) / norm(weights) at the last epoch end."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        model = self.model
        averages = model.optimizer._model_variables_moving_average
        as_numpy = keras.ops.convert_to_numpy
        pairs = [(as_numpy(v), as_numpy(a)) for v, a in zip(model.trainable_variables, averages)]
        apart = sum(float(np.sum((v - a) ** 2)) for v, a in pairs)
        self.distance = (apart / sum(float(np.sum(v**2)) for v, _ in pairs)) ** 0.5


def measure(name: str, learning_rate: float, momentum: float, epochs: int) -> str:
    x, y = digits()
    keras.utils.set_random_seed(1)
    optimizer = getattr(keras.optimizers, name)(learning_rate, use_ema=True, ema_momentum=momentum)
    model = network()
    model.compile(optimizer, LOSS, metrics=["accuracy"])
    apart, again = Distance(), bng.Recalibrate(x[:512])
    model.fit(x[:1200], y[:1200], batch_size=32, epochs=epochs, verbose=0, callbacks=[apart, again])
    fresh = model.evaluate(x[1200:], y[1200:], verbose=0)[1]
    again.result.undo()
    stale = model.evaluate(x[1200:], y[1200:], verbose=0)[1]
    before, after = again.result.before, again.result.after
    off = max(
        float(np.mean(np.abs(after[p].mean - before[p].mean) / np.sqrt(before[p].variance + 1e-3)))
        for p in after
    )
    return f"{apart.distance:8.4f}  {stale:7.3f}  {fresh:7.3f}  {off:7.3f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, nargs="+", default=[4, 16])
    chosen = parser.parse_args()
    print("optimizer  lr      ema    epochs  distance    stale    fresh  off, sd")
    for name, learning_rates in LEARNING_RATES.items():
        for learning_rate in learning_rates:
            for momentum in (0.9, 0.99, 0.999):
                for epochs in chosen.epochs:
                    row = measure(name, learning_rate, momentum, epochs)
                    print(
                        f"{name:9}  {learning_rate:<6}  {momentum:<5}  {epochs:6}  {row}",
                        flush=True,
                    )
