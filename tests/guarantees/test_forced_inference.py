"""Forced inference is exact: statistics stay bit-identical, in every style of training."""

from __future__ import annotations

import copy
import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.backends.patches.attribute_patches import open_patches
from keras_bnguard.model.forced_inference import forces_in_step
from tests import ROOT
from tests.builders.models import (
    BN,
    Leaky,
    Net,
    adam,
    backbone,
    data,
    frozen_parent,
    layers,
    sgd,
    transfer,
)
from tests.builders.values import as_array, statistics
from tests.stack import BACKEND, IS_KERAS3, STACK, keras

TF = BACKEND == "tensorflow"
KERAS2 = not IS_KERAS3


def fit(model, **settings):
    x, y = data(24)
    model.fit(x, y, batch_size=8, verbose=0, epochs=2, **settings)


def same_and_changed(model, train, forced="base/bn", other="head_bn"):
    """Train; whether the forced BN is bit-identical, and whether the other one changed."""
    find = {path.rsplit("/", 1)[-1]: layer for path, layer in walk(model)}
    first, second = find[forced.rsplit("/", 1)[-1]], find[other]
    before = statistics(first), statistics(second)
    train(model)
    assert open_patches() == 0
    return statistics(first) == before[0], statistics(second) != before[1]


def _graph_of(model):
    return model.input, model.output


def walk(model):
    for layer in model.layers:
        yield layer.name, layer
        if hasattr(layer, "layers"):
            yield from walk(layer)


STYLES = {
    "graph": {},
    "eager": {"run_eagerly": True},
    "jit": {"jit_compile": True},
    "steps": {"steps_per_execution": 2},
}
if BACKEND == "torch":
    del STYLES["jit"], STYLES["steps"]
if BACKEND == "jax":
    STYLES["no jit"] = {"jit_compile": False}


@pytest.mark.parametrize("style", STYLES)
def test_bn_below_a_frozen_parent_is_forced(style):
    bng.force_inference(model := frozen_parent())
    model.compile(sgd(), "mse", **STYLES[style])
    assert same_and_changed(model, fit) == (True, True)


def test_without_forced_inference_the_same_bn_is_updated():
    model = frozen_parent()
    model.compile(sgd(), "mse")
    assert same_and_changed(model, fit) == (False, True)


@pytest.mark.parametrize("style", STYLES)
def test_the_training_false_of_a_graph_is_obeyed(style):
    bng.force_inference(model := transfer(training=False))
    model.compile(sgd(), "mse", **STYLES[style])
    assert same_and_changed(model, fit) == (True, True)


def test_the_training_false_of_a_graph_reaches_dropout_too():
    bng.force_inference(model := transfer(training=False))
    model.get_layer("head_bn").trainable = False
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x, y = data(8)
    first, second = (float(np.ravel(model.train_on_batch(x, y))[0]) for _ in range(2))
    expected = float(np.mean((model.predict(x, verbose=0) - y) ** 2))
    assert first == pytest.approx(second)
    assert first == pytest.approx(expected, rel=1e-5)


def test_a_selector_forces_what_nothing_else_would():
    bng.force_inference(model := transfer(), layers="base/*")
    model.compile(adam(), "mse")
    assert same_and_changed(model, fit) == (True, True)


def test_gamma_and_beta_of_a_forced_bn_train():
    bng.force_inference(model := transfer(), layers="base/*")
    model.compile(sgd(), "mse")
    bn = model.get_layer("base").get_layer("bn")
    before = [w.copy() for w in bn.get_weights()[:2]]
    fit(model)
    assert not any(np.array_equal(a, b) for a, b in zip(before, bn.get_weights()))


def test_bn_is_forced_in_a_monitored_run_as_in_any_other():
    for every in ("epoch", 1):
        guard = bng.BNGuard(every=every, on_finding="raise", ignore="BNG401")
        bng.force_inference(model := frozen_parent())
        model.compile(sgd(), "mse")
        assert same_and_changed(model, lambda m, g=guard: fit(m, callbacks=[g])) == (True, True)
        assert guard.report.steps == 6


def test_a_block_around_a_monitored_run_forces_too():
    def train(model):
        with bng.force_inference(model, "base/*"):
            fit(model, callbacks=[bng.BNGuard(on_finding="raise", ignore="BNG401")])

    model = transfer()
    model.compile(sgd(), "mse")
    assert same_and_changed(model, train) == (True, True)


def test_guarded_model_forces_as_functional_model():
    base = backbone()
    inputs = keras.Input((4,))
    outputs = layers.Dense(1)(BN(name="head_bn")(base(inputs, training=False)))
    model = bng.GuardedModel(inputs, outputs)
    assert isinstance(model, keras.Model)
    model.compile(sgd(), "mse")
    assert same_and_changed(model, fit) == (True, True)


def test_the_mixin_forces_around_the_users_own_train_step():
    called = []

    class Own(Net):
        def train_step(self, *args, **kwargs):
            called.append(1)
            return super().train_step(*args, **kwargs)

    class Forced(bng.GuardedTrainStep, Own):
        def __init__(self):
            super().__init__()
            self.late = BN(name="late")

        def call(self, x, training=None):
            return self.late(super().call(x, training=training), training=training)

    model = Forced()
    model.compile(sgd(), "mse")
    model.train_on_batch(*data(8))
    bng.force_inference(model, layers="bn")
    assert same_and_changed(model, fit, forced="bn", other="late") == (True, True)
    assert called


def test_a_users_own_compute_loss_is_used():
    class Own(Net):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **kwargs):
            return 0.0 * (y_pred**2).mean() if BACKEND == "torch" else 0.0 * (y_pred[0, 0] ** 2)

    model = Own()
    x, y = data(8)
    model(x)
    bng.force_inference(model, layers="bn")
    model.compile(sgd(), "mse")
    before, weights = statistics(model.bn), [w.copy() for w in model.get_weights()]
    model.train_on_batch(x, y)
    assert statistics(model.bn) == before
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights()))


def test_train_on_batch_forces():
    x, y = data(8)

    def train(model):
        for _ in range(3):
            model.train_on_batch(x, y)

    bng.force_inference(model := frozen_parent())
    model.compile(sgd(), "mse")
    assert same_and_changed(model, train) == (True, True)


def test_mixed_precision_forces():
    mixed = keras.mixed_precision
    setter = getattr(mixed, "set_global_policy", None) or mixed.set_dtype_policy
    name = "mixed_bfloat16"
    setter(name)
    try:
        model = frozen_parent()
    finally:
        setter("float32")
    bng.force_inference(model)
    model.compile(sgd(), "mse")
    assert same_and_changed(model, fit) == (True, True)


def test_an_explicit_false_in_a_call_counts_for_its_bn_and_no_later_one():
    bng.force_inference(model := Leaky())
    model.compile(sgd(), "mse")
    model(data(8)[0])
    assert same_and_changed(model, fit, forced="bn", other="late") == (True, True)


def test_flags_that_change_are_read_again_after_compile():
    bng.force_inference(model := transfer())
    model.compile(sgd(), "mse")
    assert same_and_changed(model, fit, other="head_bn") == (False, True)
    model.get_layer("base").trainable = False
    model.get_layer("base").get_layer("bn").trainable = True
    model.compile(sgd(), "mse")
    assert same_and_changed(model, fit) == (True, True)


def test_a_bn_that_updates_though_frozen_is_forced():
    class Stubborn(BN):
        """Updates its mean whatever its flag is."""

        def call(self, x, training=None, **kwargs):
            if training:
                ops = keras.ops if IS_KERAS3 else keras.backend
                self.moving_mean.assign(0.5 * self.moving_mean + 0.5 * ops.mean(x, axis=0))
            return super().call(x, training=training, **kwargs)

    inputs = keras.Input((4,))
    x = Stubborn(name="bn", trainable=False)(inputs)
    x = BN(name="head_bn")(x)

    def fresh():
        model = keras.models.clone_model(keras.Model(inputs, layers.Dense(1)(x)))
        model.compile(sgd(), "mse")
        return model

    assert same_and_changed(fresh(), fit, forced="bn") == (False, True)
    bng.force_inference(model := fresh())
    assert same_and_changed(model, fit, forced="bn") == (True, True)


def test_renorm_statistics_are_bit_identical_too():
    if not KERAS2 and "renorm" not in BN.__init__.__code__.co_varnames:
        pytest.skip("this Keras has no batch renormalisation")
    inputs = keras.Input((4,))
    x = BN(name="bn", renorm=True)(inputs)
    model = keras.Model(inputs, layers.Dense(1)(BN(name="head_bn")(x)))
    bng.force_inference(model, layers="bn")
    model.compile(sgd(), "mse")
    assert len(statistics(model.get_layer("bn"))) == 4
    assert same_and_changed(model, fit, forced="bn") == (True, True)


# ------------------------------------------------------------------- custom training loops
def custom_loop(model):
    """A step of the backend's own kind, traced inside whatever block is open."""
    x, y = data(16)
    if TF:
        import tensorflow as tf

        optimizer = sgd()
        optimizer.build(model.trainable_variables)

        @tf.function
        def step(x, y):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
            variables = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))

        for _ in range(3):
            step(x, y)
    elif BACKEND == "jax":
        import jax

        @jax.jit
        def step(trainable, other):
            def loss(trainable):
                out, other_ = model.stateless_call(trainable, other, x, training=True)
                return ((out - y) ** 2).mean(), other_

            gradients, other = jax.grad(loss, has_aux=True)(trainable)
            return [t - 0.002 * g for t, g in zip(trainable, gradients)], other

        trainable = [v.value for v in model.trainable_variables]
        other = [v.value for v in model.non_trainable_variables]
        for _ in range(3):
            trainable, other = step(trainable, other)
        for variables, values in (
            (model.trainable_variables, trainable),
            (model.non_trainable_variables, other),
        ):
            for variable, value in zip(variables, values):
                variable.assign(value)
    else:
        import torch

        optimizer = torch.optim.SGD(model.parameters(), lr=0.002)
        y = keras.ops.convert_to_tensor(y)  # On the device of the model.
        for _ in range(3):
            optimizer.zero_grad()
            ((model(x, training=True) - y) ** 2).mean().backward()
            optimizer.step()


def test_a_custom_training_loop_is_forced_inside_the_block_and_only_there():
    model = transfer()

    def train(model):
        with bng.force_inference(model, "base/*") as handle:
            assert handle.paths == ("base/bn",)
            custom_loop(model)

    assert same_and_changed(model, train) == (True, True)
    assert same_and_changed(model, custom_loop) == (False, True)


def test_a_block_forces_fit_and_train_on_batch_and_nothing_after_it():
    model = transfer()
    model.compile(sgd(), "mse")
    fit(model)

    def train(model):
        with bng.force_inference(model, "base/*"):
            fit(model)
            model.train_on_batch(*data(8))

    assert same_and_changed(model, train) == (True, True)
    assert same_and_changed(model, fit) == (False, True)


def test_nested_blocks_each_force_their_own_bn():
    model = transfer()
    model.compile(sgd(), "mse")
    x, y = data(8)
    with bng.force_inference(model, "base/*"):
        with bng.force_inference(model, "*"):
            before = [w.copy() for w in model.get_layer("head_bn").get_weights()[2:]]
            model.train_on_batch(x, y)
            after = model.get_layer("head_bn").get_weights()[2:]
            assert all(np.array_equal(a, b) for a, b in zip(before, after))
        assert same_and_changed_inside(model, x, y) == (True, True)
    assert open_patches() == 0


def same_and_changed_inside(model, x, y):
    bn, head = model.get_layer("base").get_layer("bn"), model.get_layer("head_bn")
    before = statistics(bn), statistics(head)
    model.train_on_batch(x, y)
    return statistics(bn) == before[0], statistics(head) != before[1]


def test_everything_is_put_back_when_the_block_raises():
    model = transfer()
    before = open_patches()
    with pytest.raises(ZeroDivisionError), bng.force_inference(model, "*"):
        raise ZeroDivisionError(open_patches())
    assert before == 0
    assert open_patches() == 0
    assert same_and_changed(model, custom_loop) == (False, True)


def test_a_forced_bn_normalises_with_its_moving_statistics():
    layer = BN(name="bn")
    model = keras.Sequential([keras.Input((3,)), layer])
    x = data(8, 3)[0]
    layer.set_weights([np.full(3, v, np.float32) for v in (1.0, 0.0, 2.0, 4.0)])
    with bng.force_inference(model, "*"):
        out = as_array(model(x, training=True))
    np.testing.assert_allclose(out, (x - 2.0) / np.sqrt(4.0 + 1e-3), rtol=1e-5, atol=1e-6)


# ----------------------------------------------------------------- distribution
@pytest.mark.skipif(not TF, reason="logical devices are TensorFlow's")
def test_two_replicas_force():
    # Devices have to be split before TensorFlow starts, so in a process of their own.
    command = [sys.executable, "-m", "tests.builders.two_replicas"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip().endswith(
        "replicas 2, forced True, other changed True, patches 0, found [('BNG701', 'head_bn')]"
    )


@pytest.mark.skipif(BACKEND != "torch", reason="torch modules can only be wrapped on torch")
def test_bn_in_a_torch_module_is_forced_and_keeps_its_own_mode():
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    model = keras.Sequential(
        [keras.Input((4,)), layers.TorchModuleWrapper(net, name="net"), layers.Dense(1)]
    )
    model.layers[0].trainable = False
    handle = bng.force_inference(model)
    model.compile(sgd(), "mse")
    before = net[1].running_mean.clone()
    fit(model)
    assert torch.equal(net[1].running_mean, before)
    assert "forward" not in vars(net[1])
    handle.release()
    fit(model)
    assert not torch.equal(net[1].running_mean, before)


# ---------------------------------------------------------------------- errors
def test_force_inference_refuses_what_cannot_be_trained_and_what_matches_nothing():
    with pytest.raises(bng.UnsupportedModelError, match=r"expected a keras.Model"):
        bng.force_inference(layers.Dense(1))
    with pytest.raises(bng.SelectorError, match=r"matches no BN of the 2.*Nearest: head_bn"):
        bng.force_inference(transfer(), layers="head_bm")
    with pytest.raises(bng.SelectorError, match="matches no BN"):
        bng.force_inference(transfer(), "Dense")


def test_a_model_is_freed_while_its_bn_are_forced():
    models = frozen_parent(), bng.GuardedModel(*_graph_of(frozen_parent()))
    bng.force_inference(models[0], layers="head_bn")
    for model in models:
        model.compile(sgd(), "mse", run_eagerly=True)
        fit(model)
    dead = [weakref.ref(model) for model in models]
    del models, model
    keras.backend.clear_session()
    gc.collect()
    assert [ref() for ref in dead] == [None, None]


def test_a_copy_of_a_model_is_not_forced():
    model = frozen_parent()
    handle = bng.force_inference(model, layers="head_bn")
    for copied in (keras.models.clone_model(model), copy.deepcopy(model)):
        assert not forces_in_step(copied)
        copied.compile(sgd(), "mse")
        assert same_and_changed(copied, fit, forced="base/bn", other="head_bn")[1]
    handle.release()


def test_the_users_own_train_step_comes_back_when_all_is_released():
    model = frozen_parent()
    own = model.train_step
    object.__setattr__(model, "train_step", own)
    with bng.force_inference(model):
        assert model.train_step is not own
    assert vars(model)["train_step"] is own


def test_every_handle_releases_what_it_forced_and_no_more():
    model = frozen_parent()
    first = bng.force_inference(model)
    second = bng.force_inference(model, layers="head_bn")
    assert set(first.paths) == {"base/bn", "head_bn"}
    second.release()
    second.release()
    assert first.paths == ("base/bn",)
    first.release()
    assert first.paths == ()
    assert STACK
