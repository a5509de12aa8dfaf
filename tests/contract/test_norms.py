"""Handles on BN: of Keras, and hidden in other layers; what their classes do."""

from __future__ import annotations

import os

import pytest

from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.records import NormKind
from tests.builders.models import BN, layers, transfer
from tests.builders.values import statistics
from tests.contract.models import BACKEND_OF, KERAS2, built
from tests.stack import BACKEND, STACK, keras


def test_the_handle_of_keras_own_bn():
    layer = built(BN(momentum=0.8, epsilon=0.01))
    (handle,) = BACKEND_OF.graph.handles(layer, "a/bn")
    assert (handle.path, handle.kind, handle.builtin) == ("a/bn", NormKind.KERAS, True)
    assert handle.layer is layer
    assert handle.settings["momentum"] == pytest.approx(0.8)
    assert handle.settings["epsilon"] == pytest.approx(0.01)
    expected = [layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta]
    assert all(a is b for a, b in zip(handle.vectors(), expected))
    layer.trainable = False
    assert handle.own_flag() is False


def test_a_bn_without_gamma_and_one_not_built_have_none():
    (handle,) = BACKEND_OF.graph.handles(built(BN(scale=False, center=False)), "bn")
    assert handle.vectors()[2:] == (None, None)
    (handle,) = BACKEND_OF.graph.handles(BN(), "bn")
    assert handle.vectors() == (None, None, None, None)
    assert BACKEND_OF.graph.handles(layers.Dense(1), "dense") == []
    assert BACKEND_OF.graph.handles(layers.LayerNormalization(), "norm") == []


def behaviour_of(layer):
    (handle,) = BACKEND_OF.graph.handles(layer, "bn")
    found = BACKEND_OF.values.norm_behaviour(handle)
    assert handle.layer is layer
    return handle.builtin, (found.trainable_updates, found.frozen_updates, found.frozen_uses_batch)


def test_behaviour_of_bn_classes_is_measured():
    class Plain(BN):
        pass

    class Drops(BN):
        def call(self, x, training=None, **kwargs):
            return super().call(x, training=False)

    class Always(BN):
        def call(self, x, training=None, **kwargs):
            flag, self._trainable = self._trainable, True
            try:
                return super().call(x, training=True)
            finally:
                self._trainable = flag

    before = statistics(layer := built(Plain()))
    assert behaviour_of(layer) == (False, (True, False, False))
    assert statistics(layer) == before
    assert behaviour_of(built(Drops())) == (False, (False, False, False))
    builtin, (trainable, frozen, _) = behaviour_of(built(Always()))
    assert (builtin, trainable, frozen) == (False, True, True)


def test_a_class_that_cannot_be_created_from_its_config_is_not_measured():
    class Stubborn(BN):
        def __init__(self, thing):
            super().__init__()
            self.thing = thing

    (handle,) = BACKEND_OF.graph.handles(built(Stubborn(object())), "bn")
    assert BACKEND_OF.values.norm_behaviour(handle) is None


if KERAS2:

    def test_the_bn_of_tf1_is_not_the_built_in_one():
        import tensorflow as tf

        old = tf.compat.v1.keras.layers.BatchNormalization
        if not BACKEND_OF.graph.is_layer(old()):
            pytest.fail(f"{old} is no layer of {BACKEND_OF.package}")
        builtin, (trainable, frozen, by_batch) = behaviour_of(built(old()))
        assert (builtin, trainable) == (False, True)
        assert frozen or by_batch


if STACK == "k3-tf":

    def test_bn_inside_a_saved_model_is_seen_by_its_variables(tmp_path):
        model = transfer()
        model.export(os.path.join(tmp_path, "saved"), verbose=False)
        inputs = keras.Input((4,))
        layer = layers.TFSMLayer(
            os.path.join(tmp_path, "saved"), call_endpoint="serve", name="saved"
        )
        found = take_snapshot(keras.Model(inputs, layer(inputs))).inventory.norms
        assert len(found) == 2
        assert {n.kind for n in found} == {NormKind.VARIABLES}


if BACKEND == "jax":

    def test_bn_inside_a_jax_layer_is_seen_by_its_state():
        import jax.numpy as jnp

        def call(params, state, rng, inputs, training):
            return inputs, state

        state = {"batch_stats": {"norm": {"mean": jnp.zeros(3), "var": jnp.ones(3)}}}
        layer = layers.JaxLayer(call, params={}, state=state, name="flax")
        found = BACKEND_OF.graph.handles(layer, "flax")
        assert [h.path for h in found] == ["flax/batch_stats/norm"]
        assert found[0].kind is NormKind.VARIABLES
        state = BACKEND_OF.values.state(found[0])
        assert state.mean.tolist() == [0, 0, 0]
        assert state.gamma is None


if BACKEND == "torch":

    def test_bn_inside_torch_modules_has_a_handle_each():
        import torch

        net = torch.nn.Sequential(
            torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3, track_running_stats=False)
        )
        (handle,) = BACKEND_OF.graph.handles(layers.TorchModuleWrapper(net), "net")
        assert (handle.path, handle.kind) == ("net/0", NormKind.TORCH)
        assert handle.module is net[0]
        assert handle.vectors()[0] is net[0].running_mean
        assert BACKEND_OF.values.state(handle).variance.tolist() == [1, 1, 1]

    def test_flags_of_torch_parameters_count():
        import torch

        net = torch.nn.BatchNorm1d(3)
        (handle,) = BACKEND_OF.graph.handles(layers.TorchModuleWrapper(net), "net")
        assert handle.own_flag()
        net.weight.requires_grad = False
        assert handle.own_flag()
        net.bias.requires_grad = False
        assert not handle.own_flag()
