"""Every optimizer goes through a transition: those of Keras, the legacy ones, TensorFlow Addons."""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.backends.registry import backend_for
from tests.builders import schedules as r
from tests.builders.schedules import IS_KERAS3, STACK, keras

LEARNING_RATE = 1e-2
NAMES = ["AdamW", "Lion", "RMSprop", "Adafactor", "Ftrl", "scaled", "ema"]
if STACK == "k3-jax":
    NAMES.remove("scaled")  # it can be applied inside a compiled step only: see IN_FIT
NAMES += ["Nadam", "accumulates", "Muon", "ScheduleFreeAdamW"] if IS_KERAS3 else []
NAMES += [] if IS_KERAS3 else ["legacy.SGD", "legacy.Adam", "legacy.Nadam", "legacy.scaled"]
if STACK == "k2":
    NAMES += ["tfa.AdamW", "tfa.LazyAdam", "tfa.RectifiedAdam", "tfa.Lookahead", "tfa.LAMB"]
    NAMES += ["tfa.MovingAverage"]


def made(name: str) -> Any:
    family, _, which = name.rpartition(".")
    if family == "tfa":
        return addon(which)
    home = keras.optimizers.legacy if family == "legacy" else keras.optimizers
    if which == "scaled":
        scaled = (keras.optimizers if IS_KERAS3 else keras.mixed_precision).LossScaleOptimizer
        return scaled(home.SGD(LEARNING_RATE, momentum=0.9), initial_scale=8.0)
    if which == "ema":
        return home.Adam(LEARNING_RATE, use_ema=True, ema_momentum=0.5)
    if which == "accumulates":
        return home.Adam(LEARNING_RATE, gradient_accumulation_steps=2)
    if not hasattr(home, which):
        pytest.skip(f"this Keras has no {which}")
    return getattr(home, which)(LEARNING_RATE)


def addon(which: str) -> Any:
    import tensorflow_addons as tfa

    inner = keras.optimizers.legacy.SGD(LEARNING_RATE, momentum=0.9)
    if which in ("Lookahead", "MovingAverage"):
        return getattr(tfa.optimizers, which)(inner)
    more: Dict[str, Any] = {"weight_decay": 1e-2} if which == "AdamW" else {}
    return getattr(tfa.optimizers, which)(learning_rate=LEARNING_RATE, **more)


@pytest.mark.parametrize("name", NAMES)
def test_what_goes_on_training_does_not_notice_the_transition(name):
    """Given the same gradients, the head ends bit for bit where it does without a transition;
    the backbone joins in and stays finite."""
    rng = np.random.default_rng(1)
    shapes = {v: w.shape for v, w in zip(*named(r.transfer()))}
    gradients = [{v: rng.normal(size=s).astype("float32") for v, s in shapes.items()}
                 for _ in range(5)]  # fmt: skip
    ends = []
    for unfreezes in (True, False):
        model = r.transfer()
        r.freeze(model, r.head_only)
        model.compile(made(name), "mse")
        backend = backend_for(model)
        backend.optimizer.renew(model)
        for step, values in enumerate(gradients):
            if step == 3 and unfreezes:
                r.freeze(model, r.everything)
                backend.optimizer.renew(model)
            pairs = [(r.tensor(values[n]), v) for n, v in trainable(model)]
            model.optimizer.apply_gradients(pairs)
        ends.append(dict(zip(*named(model))))
    start = dict(zip(*named(r.transfer())))
    unfrozen, frozen = ends
    for variable in shapes:
        assert np.isfinite(unfrozen[variable]).all()
        assert not r.same([unfrozen[variable]], [start[variable]])
        if variable.startswith("head"):
            assert r.same([unfrozen[variable]], [frozen[variable]]), variable
        else:
            assert r.same([frozen[variable]], [start[variable]])


def trainable(model: Any) -> Any:
    """(layer and place, variable) of the weights that train, in Keras's order."""
    known = {id(v): f"{layer.name}/{i}" for layer in r.leaves(model)
             for i, v in enumerate(layer.trainable_weights)}  # fmt: skip
    return [(known[id(v)], v) for v in model.trainable_variables]


def named(model: Any) -> Any:
    """Names and values of all weights that can train, frozen now or not."""
    names, values = [], []
    for layer in r.leaves(model):
        for i, value in enumerate(layer.get_weights()[:2]):
            names.append(f"{layer.name}/{i}")
            values.append(value)
    return names, values


# Those whose state is more than a few variables per weight, in a whole fit.
IN_FIT = ["scaled", "accumulates"] if IS_KERAS3 else ["scaled", "legacy.scaled"]
IN_FIT += ["tfa.Lookahead", "tfa.RectifiedAdam"] if STACK == "k2" else []


@pytest.mark.parametrize("name", IN_FIT)
def test_in_fit_it_reaches_the_last_phase_with_its_learning_rate(name):
    model = r.transfer()
    model.compile(made(name), "binary_crossentropy")
    before = r.weights(model.get_layer("backbone"))
    seen = r.At(begin=lambda model, epoch: backend_for(model).optimizer.learning_rate(model))
    r.fit(model, 2, [r.scheduler(r.head_then_all(1, 1, layer_decay=0.5)), seen])
    assert seen.seen == pytest.approx([1e-2, 1e-5])
    assert not r.same(before, r.weights(model.get_layer("backbone")))
    assert all(np.isfinite(w).all() for w in r.weights(model))


def test_an_optimizer_without_a_learning_rate_is_refused_before_the_first_step():
    class NoLearningRate(keras.optimizers.SGD):
        learning_rate = None

    model = r.transfer()
    model.compile("sgd", "binary_crossentropy")
    model.optimizer.__class__ = NoLearningRate
    before: List[np.ndarray] = r.weights(model)
    with pytest.raises(bng.ScheduleError, match="NoLearningRate: it has no learning_rate"):
        r.fit(model, 1, [r.scheduler(r.head_then_all(1, 1))])
    assert r.same(before, r.weights(model))
