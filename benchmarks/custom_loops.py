"""What a step of a loop outside `fit` costs more while warnings are on.

    BNGUARD_STACK=k3-jax python benchmarks/custom_loops.py [--steps 300] [--rounds 4]

An MLP of 10 x (Dense(64), BatchNormalization) on batches of 32. The same loop with warnings on
and off in turn, each round from a first step on. Most steps only pass the hooks: their cost is
the difference of the median steps. The checks are what steps 2, 4, 8, ... take more than that,
together; the first step also audits the model, and is left out.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.stack import BACKEND, IS_KERAS3, describe, keras  # isort: skip - sets the environment

import numpy as np

import keras_bnguard as bng

rng = np.random.default_rng(0)
BATCHES = rng.normal(size=(64, 32, 16)).astype("float32")
Step = Callable[[], Any]


def mlp() -> Any:
    layers = [keras.layers.Input((16,))]
    for _ in range(10):
        layers += [keras.layers.Dense(64), keras.layers.BatchNormalization(momentum=0.9)]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    return model


def batches() -> Iterator[Any]:
    """Not one batch over and over: its moments would become the moving statistics exactly."""
    return itertools.cycle([(x, x[:, :1].copy()) for x in BATCHES])


def train_on_batch() -> Step:
    model, data = mlp(), batches()
    return lambda: model.train_on_batch(*next(data))


def gradient_tape(jitted: bool) -> Step:
    import tensorflow as tf

    model, optimizer, data = mlp(), keras.optimizers.SGD(1e-3), batches()

    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True) - y))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    run = tf.function(step) if jitted else step

    def convert() -> Any:
        return run(*map(tf.constant, next(data)))

    return convert


def torch_loop() -> Step:
    import torch

    model, data = mlp(), batches()
    optimizer = torch.optim.SGD([v.value for v in model.trainable_variables], 1e-3)

    def step() -> None:
        x, y = map(torch.tensor, next(data))
        loss = ((model(x, training=True) - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def stateless_loop() -> Step:
    import jax

    model, optimizer, data = mlp(), keras.optimizers.SGD(1e-3), batches()
    optimizer.build(model.trainable_variables)

    def loss_of(weights: Any, state: Any, x: Any, y: Any) -> Any:
        out, state = model.stateless_call(weights, state, x, training=True)
        return ((out - y) ** 2).mean(), state

    @jax.jit
    def jitted(weights: Any, state: Any, variables: Any, x: Any, y: Any) -> Any:
        (_, state), grads = jax.value_and_grad(loss_of, has_aux=True)(weights, state, x, y)
        weights, variables = optimizer.stateless_apply(variables, grads, weights)
        return weights, state, variables

    groups = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    values = [[v.value for v in group] for group in groups]

    def step() -> None:
        values[:] = jax.block_until_ready(jitted(*values, *next(data)))

    return step


def loops() -> Dict[str, Callable[[], Step]]:
    found: Dict[str, Callable[[], Step]] = {"train_on_batch": train_on_batch}
    if BACKEND == "tensorflow":
        found["GradientTape"] = lambda: gradient_tape(False)
        found["GradientTape in tf.function"] = lambda: gradient_tape(True)
    elif BACKEND == "torch":
        found["torch loop"] = torch_loop
    elif IS_KERAS3:
        found["stateless loop"] = stateless_loop
    return found


def seconds(step: Step, count: int) -> List[float]:
    taken = []
    for _ in range(count):
        begin = time.perf_counter()
        step()
        taken.append(time.perf_counter() - begin)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    print(describe())
    for name, make in loops().items():
        step = make()
        seconds(step, 5)  # traced
        plain, watched, checks = [], [], []
        for _ in range(options.rounds):
            plain.append(statistics.median(seconds(step, options.steps)))
            bng.enable_warnings(on_finding="log")
            taken = seconds(step, options.steps)
            bng.disable_warnings()
            watched.append(statistics.median(taken))
            checked = (taken[2**k - 1] for k in range(1, 20) if 2**k <= len(taken))
            checks.append(sum(each - watched[-1] for each in checked))
        without, with_ = min(plain), min(watched)
        print(
            f"  {name:28}{without * 1e3:8.3f} ms/step, hooks {(with_ - without) * 1e6:+6.0f} us "
            f"({with_ / without - 1:+.1%}), checks {min(checks) * 1e3:.0f} ms in {options.steps}"
        )


if __name__ == "__main__":
    main()
