"""BNG301 and BNG407 count the updates that steps made, over every `fit` of a model."""

from __future__ import annotations

import math
from typing import Any, Optional

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders.harness import BACKEND, IS_KERAS3, fit
from tests.builders.pipelines import L
from tests.stack import keras

MOMENTUM = 0.97
STEPS = 12


def model_of(calls: int, training: Optional[bool] = None, **settings: Any) -> Any:
    """A BN on constant data, called so often in a step."""
    inputs = keras.Input((4,))
    bn = L.BatchNormalization(momentum=MOMENTUM, name="bn")
    parts = [bn(inputs + float(i), training=training) for i in range(calls)]
    h = parts[0] if calls == 1 else L.Add()(parts)
    model = keras.Model(inputs, L.Dense(1)(h))
    model.compile(keras.optimizers.SGD(1e-3), "mse", **settings)
    return model


def train(model: Any, steps: int = STEPS) -> Any:
    x = np.full((4 * steps, 4), 50.0, "float32") + np.tile([[0.0], [1.0]], (2 * steps, 4))
    x = x.astype("float32")
    return fit(model, x, x[:, :1] * 0, batch_size=4, epochs=1, guard=bng.BNGuard(data=None))


def updates_made(model: Any) -> float:
    """By the moving mean itself: every batch has nearly the same mean."""
    mean = float(np.array(model.get_layer("bn").get_weights()[2])[0])
    return math.log(1 - mean / 51.0) / math.log(MOMENTUM)


@pytest.mark.parametrize("calls", [1, 2])
def test_a_step_that_calls_a_bn_twice_updates_it_twice(calls: int) -> None:
    model = model_of(calls)
    weight = train(model).finding("BNG301").evidence["initial_weight"]["bn"]
    assert weight == pytest.approx(MOMENTUM ** (calls * STEPS), rel=1e-6)
    assert updates_made(model) == pytest.approx(calls * STEPS, abs=1.0)


def test_several_batches_in_one_call_of_the_step_are_not_several_updates_a_batch() -> None:
    if BACKEND == "torch":
        with pytest.raises(ValueError, match="steps_per_execution"):
            train(model_of(1, steps_per_execution=4))
        return
    model = model_of(1, steps_per_execution=4)
    weight = train(model).finding("BNG301").evidence["initial_weight"]["bn"]
    assert weight == pytest.approx(MOMENTUM**STEPS, rel=1e-6)
    assert updates_made(model) == pytest.approx(STEPS, abs=1.0)


def test_the_updates_of_every_fit_count_together() -> None:
    model = model_of(1)
    weights = []
    for _ in range(9):
        found = [f for f in train(model).guard.report.findings if f.code == "BNG301"]
        weights += [f.evidence["initial_weight"]["bn"] for f in found]
    assert weights == pytest.approx([MOMENTUM ** (STEPS * n) for n in range(1, len(weights) + 1)])
    assert 1 < len(weights) < 9


def test_bn_that_never_use_their_moving_statistics_are_left_alone() -> None:
    """Keras 2 obeys `training=True` of a graph in `predict`; Keras 3 does not."""
    found = {"BNG301", "BNG407"} & set(train(model_of(1, training=True)).codes)
    assert found == ({"BNG301"} if IS_KERAS3 else set())
