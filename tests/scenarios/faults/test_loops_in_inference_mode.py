"""BNG206 where a loop or a `call` runs the model in inference mode, and its repaired twin."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import pytest

from keras_bnguard.auto import AutoWarnings
from keras_bnguard.settings import Settings
from tests.builders.harness import BACKEND, IS_KERAS3, fit
from tests.builders.pipelines import L, compiled, pretend_trained, rows, sequential
from tests.stack import keras

STEPS = 6


def loop_of_tape(model: Any, x: Any, y: Any, **how: Any) -> None:
    import tensorflow as tf

    optimizer = keras.optimizers.SGD(0.1)
    for _ in range(STEPS):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, **how) - y) ** 2)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))


def loop_of_torch(model: Any, x: Any, y: Any, **how: Any) -> None:
    import torch

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    for _ in range(STEPS):
        optimizer.zero_grad()
        ((model(x, **how) - y) ** 2).mean().backward()
        optimizer.step()


def loop_of_jax(model: Any, x: Any, y: Any, **how: Any) -> None:
    import jax

    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)

    def loss_of(trainable: Any, frozen: Any) -> Any:
        predicted, frozen = model.stateless_call(trainable, frozen, x, **how)
        return ((predicted - y) ** 2).mean(), frozen

    @jax.jit
    def step(trainable: Any, frozen: Any, state: Any) -> Any:
        (_, frozen), grads = jax.value_and_grad(loss_of, has_aux=True)(trainable, frozen)
        trainable, state = optimizer.stateless_apply(state, grads, trainable)
        return trainable, frozen, state

    parts = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    values = tuple([variable.value for variable in part] for part in parts)
    for _ in range(STEPS):
        values = step(*values)
    for part, new in zip(parts[:2], values[:2]):
        for variable, value in zip(part, new):
            variable.assign(value)


LOOP: Callable[..., None] = {
    "tensorflow": loop_of_tape,
    "torch": loop_of_torch,
    "jax": loop_of_jax,
}[BACKEND]


def codes_of(model: Any, **how: Any) -> Any:
    """What is found in a loop under automatic warnings."""
    watch = AutoWarnings()
    watch.enable(Settings(), by_warning=False)
    try:
        LOOP(model, *rows(32), **how)
        watch.finish()
        report = watch.all_runs().report()
    finally:
        watch.disable()
    assert not watch.faults, watch.faults
    assert watch.all_runs().count == 1
    return {finding.code for finding in report.findings}


def test_a_loop_without_training_is_found_and_with_it_it_is_not() -> None:
    assert "BNG206" in codes_of(sequential())
    assert "BNG206" not in codes_of(sequential(), training=True)


def test_trained_or_frozen_bn_in_inference_mode_on_purpose_are_silent() -> None:
    assert "BNG206" not in codes_of(pretend_trained(sequential()), training=False)
    frozen = sequential()
    frozen.get_layer("bn").trainable = False
    assert "BNG206" not in codes_of(frozen)


def block(name: str) -> Any:
    return keras.Sequential([L.BatchNormalization(), L.Dropout(0.5), L.Dense(8)], name=name)


class WithoutArgument(keras.Model):
    """As in published code: `call` takes no `training`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = block("first"), block("second")
        self.out = L.Dense(1, activation="sigmoid")

    def call(self, x: Any) -> Any:
        return self.out(self.second(self.first(x)))


class WithArgument(WithoutArgument):
    def call(self, x: Any, training: Any = None) -> Any:
        how = {"training": training} if BACKEND == "jax" else {}
        return self.out(self.second(self.first(x, **how), **how))


@pytest.mark.parametrize("cls", [WithoutArgument, WithArgument])
def test_a_call_without_the_argument_is_one_finding_with_the_cure(cls: Any) -> None:
    model = cls()
    x, y = rows()
    model(x[:2])
    run = fit(compiled(model), x * 3.0 + 2.0, y, epochs=2)
    faulty = IS_KERAS3 and cls is WithoutArgument
    assert ("BNG206" in run.codes) == faulty
    assert "BNG203" not in run.codes
    if faulty:
        finding = run.finding("BNG206")
        assert len(finding.layers) == 2
        assert "training=None)" in finding.fix
    else:
        statistics = [np.array(layer.layers[0].get_weights()[2]) for layer in model.layers[:2]]
        assert all(np.any(mean != 0) for mean in statistics)
