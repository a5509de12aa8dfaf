"""Wrapped optimizers and gradient accumulation: what they keep over transitions of phases.

The gradient of each weight is 1 in every step, so what each step did is known by arithmetic.
"""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.backends.registry import backend_for
from tests.builders import schedules as r
from tests.builders.schedules import IS_KERAS3, STACK, L, keras
from tests.builders.values import as_array, learning_rate

NAMES = ["plain", "scaled"] + (["accumulates"] if IS_KERAS3 else ["legacy scaled"])
NAMES += ["Lookahead", "SWA", "MovingAverage"] if STACK == "k2" else []
FIRST, SECOND = 0.1, 0.01
STEPS = [FIRST] * 3 + [SECOND] * 3


def made(name: str, learning_rate: float = 0.5) -> Any:
    if name == "plain":
        return keras.optimizers.SGD(learning_rate)
    if name == "accumulates":
        return keras.optimizers.SGD(learning_rate, gradient_accumulation_steps=2)
    if name.endswith("scaled"):
        family = keras.optimizers if IS_KERAS3 else keras.mixed_precision
        home = keras.optimizers.legacy if name.startswith("legacy") else keras.optimizers
        return family.LossScaleOptimizer(home.SGD(learning_rate), initial_scale=8.0)
    import tensorflow_addons as tfa

    inner = keras.optimizers.legacy.SGD(learning_rate)
    settings: Dict[str, Dict[str, Any]] = {
        "Lookahead": {"sync_period": 2, "slow_step_size": 0.5},
        "SWA": {"start_averaging": 0, "average_period": 1},
        "MovingAverage": {"average_decay": 0.5},
    }
    return getattr(tfa.optimizers, name)(inner, **settings[name])


def network() -> Any:
    """Two weights, `first` and `other`, whose sum is the loss for an input of 1."""
    inputs = keras.Input((1,))
    parts = [
        L.Dense(1, use_bias=False, kernel_initializer="zeros", name=name)(inputs)
        for name in ("first", "other")
    ]
    return keras.Model(inputs, L.Add()(parts))


def mean(y_true: Any, y_pred: Any) -> Any:
    return y_pred[..., 0] + 0.0 * y_true[..., 0]


def phases() -> List[bng.Phase]:
    return [
        bng.Phase("first", train="first", learning_rate=FIRST, epochs=1),
        bng.Phase("both", train="*", learning_rate=SECOND),
    ]


def run(name: str, state: str = "carry") -> Any:
    model = network()
    settings = {"jit_compile": False} if STACK == "k3-tf" else {}
    model.compile(made(name), mean, **settings)
    ones = np.ones((24, 1), "float32")
    schedule = r.scheduler(phases(), optimizer_state=state)
    model.fit(ones, ones, batch_size=8, epochs=2, verbose=0, callbacks=[schedule])
    return model


def expected(name: str, state: str, begins: int) -> Tuple[float, float]:
    """A weight that trains from a step on, and its average, by hand."""
    weight = slow = average = gradient = 0.0
    count = 0
    for step, taken in enumerate(STEPS):
        if state == "reset" and taken != STEPS[step - 1]:
            count, gradient, slow, average = 0, 0.0, weight, weight
        count += 1
        if step < begins:
            continue
        if name == "accumulates":
            gradient += 0.5
            if count % 2 == 0:
                weight, gradient = weight - taken * gradient, 0.0
            continue
        weight -= taken
        if name == "Lookahead" and count % 2 == 0:
            slow += 0.5 * (weight - slow)
            weight = slow
        if name == "SWA":
            average = (average * (count - 1) + weight) / count
        if name == "MovingAverage":
            average = 0.5 * average + 0.5 * weight
    return weight, average


@pytest.mark.parametrize("state", ["carry", "reset"])
@pytest.mark.parametrize("name", NAMES)
def test_each_step_uses_the_learning_rate_of_its_phase_and_the_state_of_the_one_before(name, state):
    model = run(name, state)
    given = model.optimizer
    for layer, begins in (("first", 0), ("other", 3)):
        variable = model.get_layer(layer).kernel
        weight, average = expected(name, state, begins)
        np.testing.assert_allclose(as_array(variable).item(), weight, rtol=1e-5)
        if name in ("SWA", "MovingAverage"):
            kept = as_array(given.get_slot(variable, "average"))
            np.testing.assert_allclose(kept.item(), average, rtol=1e-5)
    steps = len(STEPS) if state == "carry" else 3
    assert backend_for(model).optimizer.iterations(model) == steps
    assert learning_rate(model) == pytest.approx(SECOND)


def test_several_optimizers_in_one_are_refused_before_the_first_step():
    """`MultiOptimizer` of TensorFlow Addons was `DiscriminativeLayerOptimizer`; Keras 3 has one."""
    model = network()
    if STACK == "k2":
        import tensorflow_addons as tfa

        home = keras.optimizers.legacy
        pairs = [(home.SGD(0.1), model.get_layer(name)) for name in ("first", "other")]
        several = tfa.optimizers.MultiOptimizer(pairs)
    elif hasattr(keras.optimizers, "MultiOptimizer"):
        several = keras.optimizers.MultiOptimizer(lambda variable: made("plain"))
    else:
        pytest.skip("this Keras has none")
    model.compile(several, mean)
    ones = np.ones((8, 1), "float32")
    with pytest.raises(bng.ScheduleError, match=r"MultiOptimizer: each optimizer in it"):
        model.fit(ones, ones, verbose=0, callbacks=[r.scheduler(phases())])
    assert not any(np.any(w) for w in model.get_weights())
