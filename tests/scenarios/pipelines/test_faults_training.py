"""BNG201 to 206: the `training` argument, in real runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders.harness import IS_KERAS3, STACK, clean, fit, found, listening
from tests.builders.norm_subclasses import Dropping, with_norm
from tests.builders.pipelines import (
    L,
    Leaking,
    Passing,
    StillBackbone,
    backbone,
    compiled,
    image_backbone,
    images,
    nested,
    plain,
    rows,
)
from tests.builders.train_steps import InferenceStepModel, InferenceStepSubclass, own_step
from tests.builders.values import statistics
from tests.stack import keras

BOTH = ["backbone/bn1", "backbone/bn2"]


def still(base: Any) -> Any:
    base.trainable = False
    return base


# ------------------------------------------------------------------------ BNG201
@pytest.mark.parametrize("style", ["nested", "inside a subclass", "multi-input"])
def test_training_false_in_the_graph(style: str) -> None:
    base = backbone()
    x, y = rows()
    model = nested(base, training=False, head_bn=True)
    prefix = ""
    if style == "inside a subclass":
        inner = model
        prefix = "outer/"

        class GraphContextHolder(keras.Model):
            def __init__(self) -> None:
                super().__init__()
                self.inner = inner

            def call(self, x: Any, training: Any = None) -> Any:
                return self.inner(x, training=training)

        model = GraphContextHolder()
    elif style == "multi-input":
        a, b = keras.Input((8,), name="a"), keras.Input((8,), name="b")
        h = L.Concatenate()([base(a, training=False), L.BatchNormalization(name="side_bn")(b)])
        model = keras.Model({"a": a, "b": b}, L.Dense(1, activation="sigmoid")(h))
        x = {"a": x, "b": x}
    run = fit(compiled(model), x, y)
    if IS_KERAS3:
        paths = [prefix + p for p in BOTH]
        found(run, {"BNG201": paths, "BNG404": paths})
    else:
        clean(run)


@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}, {"jit_compile": True}])
def test_repair_obeys_training_false_in_the_graph(options: Any) -> None:
    if options.get("jit_compile") and STACK in ("k3-torch",):
        pytest.skip("torch.compile takes minutes")
    model = compiled(nested(backbone(), training=False, head_bn=True), **options)
    before = statistics(model, "backbone/bn1"), statistics(model, "backbone/bn2")
    head = statistics(model, "head_bn")
    run = fit(model, *rows(), guard=bng.BNGuard(fix=True), epochs=2)
    if IS_KERAS3:
        found(run, {"BNG201": BOTH})
        assert run.finding("BNG201").repaired
    else:
        clean(run)
    after = statistics(model, "backbone/bn1"), statistics(model, "backbone/bn2")
    assert before == after
    assert head != statistics(model, "head_bn")


# ------------------------------------------------------------------------ BNG202
def test_training_true_in_the_graph() -> None:
    run = fit(compiled(nested(backbone(), training=True)), *rows())
    if IS_KERAS3:
        clean(run)
    else:
        found(run, {"BNG202": BOTH})


def test_monte_carlo_dropout_is_no_fault() -> None:
    inputs = keras.Input((8,))
    h = L.BatchNormalization(name="bn")(L.Dense(8)(inputs))
    h = L.Dropout(0.5)(h, training=True)
    clean(fit(compiled(keras.Model(inputs, L.Dense(1, activation="sigmoid")(h))), *rows()))


# ------------------------------------------------------------------------ BNG203
def test_false_that_leaks_to_the_head() -> None:
    model = compiled(Leaking(backbone()))
    run = fit(model, *rows())
    if IS_KERAS3:
        found(run, {"BNG203": ["head_bn"]})
    else:
        clean(run)


def test_repair_stops_the_leak() -> None:
    model = Leaking(backbone())
    model(np.zeros((1, 8), "float32"))
    before, head = statistics(model.base, "bn1"), statistics(model.head_bn)
    run = fit(compiled(model), *rows(), guard=bng.BNGuard(fix=True), epochs=2)
    assert before == statistics(model.base, "bn1")
    assert head != statistics(model.head_bn)
    if IS_KERAS3:
        found(run, {"BNG203": ["head_bn"]})
        assert run.finding("BNG203").repaired
    else:
        clean(run)


# ------------------------------------------------------------------------ BNG204
@pytest.mark.parametrize("where", ["functional", "sequential", "frozen"])
def test_augmentation_in_the_model(where: str) -> None:
    x, y = images(32)
    base = image_backbone()
    if where == "frozen":
        base.trainable = False
    steps = [
        L.RandomFlip("horizontal", name="augment"),
        base,
        L.GlobalAveragePooling2D(name="pool"),
        L.Dense(1, activation="sigmoid", name="head"),
    ]
    if where == "sequential":
        model = keras.Sequential([keras.Input((8, 8, 3)), *steps], name="sequence")
    else:
        inputs = h = keras.Input((8, 8, 3))
        for step in steps:
            h = step(h)
        model = keras.Model(inputs, h)
    run = fit(compiled(model), x, y)
    if IS_KERAS3 and where != "frozen":
        found(run, {"BNG204": ["backbone/conv1_bn", "backbone/conv2_bn"]})
    else:
        clean(run)


# ------------------------------------------------------------------------ BNG205
@pytest.mark.parametrize("style", ["functional", "subclassed"])
def test_a_subclass_that_drops_training(style: str) -> None:
    if style == "functional":
        model = with_norm(Dropping(name="bn"))
    else:

        class Calls(Passing):
            def __init__(self) -> None:
                super().__init__()
                self.bn = Dropping(name="mine")

            def call(self, x: Any, training: Any = None) -> Any:
                return self.head(self.bn(self.dense(x)))

        model = Calls()
    run = fit(compiled(model), *rows())
    found(run, {"BNG205": ["bn" if style == "functional" else "mine"]})


# ------------------------------------------------------------------------ BNG206
@pytest.mark.parametrize("style", ["functional", "subclassed"])
def test_a_train_step_that_forgets_training(style: str) -> None:
    functional = style == "functional"
    model = own_step(InferenceStepModel) if functional else InferenceStepSubclass()
    found(fit(compiled(model), *rows()), {"BNG206": ["bn"]})


def test_a_train_step_that_forgets_training_where_only_beta_or_nothing_trains() -> None:
    for settings in ({"scale": False}, {"scale": False, "center": False}):
        model = own_step(InferenceStepModel, **settings)
        found(fit(compiled(model), *rows()), {"BNG206": ["bn"]})


@pytest.mark.skipif(not IS_KERAS3, reason="Keras 2 hands training on past such a call")
def test_a_call_without_training_runs_inference() -> None:
    class Deaf(Passing):
        def call(self, x: Any) -> Any:
            return self.head(self.bn(self.dense(x)))

    run = fit(compiled(Deaf()), *rows())
    if STACK == "k3-jax" or run.codes:
        found(run, {"BNG206": ["bn"]})
    else:
        assert run.guard.model.bn.moving_mean.numpy().any()


def test_false_passed_on_purpose_is_no_fault() -> None:
    clean(fit(compiled(StillBackbone(still(backbone()))), *rows()))


# ----------------------------------------------------------------- custom training loops
def one_step(model: Any, x: Any, y: Any, training: Any) -> None:
    """A step of a custom training loop, written for the backend."""
    more = {} if training is None else {"training": training}
    if STACK == "k3-jax":
        import jax
        import jax.numpy as jnp

        trainable = [v.value for v in model.trainable_variables]
        frozen = [v.value for v in model.non_trainable_variables]

        def loss_of(trainable: Any, frozen: Any) -> Any:
            y_pred, frozen = model.stateless_call(trainable, frozen, x, **more)
            return jnp.mean((y_pred - y) ** 2), frozen

        (_, frozen), grads = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(trainable, frozen)
        for variable, grad in zip(model.trainable_variables, grads):
            variable.assign(variable.value - 0.01 * grad)
        for variable, value in zip(model.non_trainable_variables, frozen):
            variable.assign(value)
    elif STACK == "k3-torch":
        import torch

        loss = torch.mean((model(x, **more) - keras.ops.convert_to_tensor(y)) ** 2)
        loss.backward()
        with torch.no_grad():
            for variable in model.trainable_variables:
                if variable.value.grad is not None:
                    variable.value.sub_(0.01 * variable.value.grad)
                    variable.value.grad = None
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, **more) - y) ** 2)
        for variable, grad in zip(
            model.trainable_variables, tape.gradient(loss, model.trainable_variables)
        ):
            variable.assign_sub(0.01 * grad)


@pytest.mark.parametrize("style", ["functional", "subclassed", "frozen base"])
def test_a_loop_of_ones_own(style: str) -> None:
    x, y = rows(16)

    def build() -> Any:
        if style == "functional":
            return plain()
        if style == "subclassed":
            model = Passing()
            model(x)
            return model
        return nested(still(backbone()), head_bn=True)

    name = "head_bn" if style == "frozen base" else "bn"
    for training in (True, None):
        model = build()
        guard = bng.BNGuard()
        with listening(guard) as run, guard.watch(model):
            for _ in range(2):
                one_step(model, x, y, training)
                guard.check()
        if training:
            clean(run)
        else:
            found(run, {"BNG206": [name]})


@pytest.mark.parametrize("right", [True, False])
def test_train_on_batch(right: bool) -> None:
    model = compiled(plain() if right else own_step(InferenceStepModel))
    x, y = rows(32)
    guard = bng.BNGuard()
    with listening(guard) as run, guard.watch(model):
        for _ in range(2):
            model.train_on_batch(x, y)
    if right:
        clean(run)
    else:
        found(run, {"BNG206": ["bn"]})


def test_train_on_batch_with_flags_changed_after_compile() -> None:
    base = backbone()
    model = compiled(nested(base))
    x, y = rows(32)
    model.train_on_batch(x, y)
    base.trainable = False
    guard = bng.BNGuard()
    with listening(guard) as run:
        try:
            with guard.watch(model):
                model.train_on_batch(x, y)
        except ValueError:
            assert STACK == "k3-jax"
    assert "BNG101" in run.codes, run.messages
