"""Private names of layers, graphs, flags and torch modules mean what we take them for."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from keras_bnguard.backends.registry import backend_for
from tests.builders.models import BN, backbone, compiled, data, layers, transfer
from tests.builders.values import as_array
from tests.contract.models import KERAS2
from tests.contract.private_names import private
from tests.stack import BACKEND, IS_KERAS3, keras


@private("_layers", on=IS_KERAS3)
def test_layers_holds_the_direct_children_of_a_layer():
    model = transfer()
    assert {layer.name for layer in model._layers} >= {"base", "head_bn", "out"}
    assert [layer.name for layer in layers.TimeDistributed(BN(name="x"))._layers] == ["x"]


@private("_flatten_layers")
def test_flatten_layers_walks_below_and_can_stop_at_the_children():
    model = transfer()
    names = {layer.name for layer in model._flatten_layers()}
    assert {"net", "base", "bn", "head_bn"} <= names
    if KERAS2:
        direct = model._flatten_layers(recursive=False, include_self=False)
        assert "bn" not in {layer.name for layer in direct}


@private("_nodes_by_depth")
def test_nodes_by_depth_gives_nodes_with_their_layer_and_arguments():
    model = transfer(training=False)
    nodes = [
        n for d in sorted(model._nodes_by_depth, reverse=True) for n in model._nodes_by_depth[d]
    ]
    calls = [n for n in nodes if not n.is_input]
    if KERAS2:
        assert calls[0].layer.name == "base"
        assert calls[0].call_kwargs["training"] is False
        assert isinstance(calls[0].call_args, tuple)
    else:
        assert calls[0].operation.name == "base"
        assert calls[0].arguments.kwargs["training"] is False
        assert isinstance(calls[0].arguments.args, tuple)


@private("_storage", on=KERAS2)
def test_lists_of_keras_2_keep_what_they_contain_in_storage():
    model = backbone()
    model.numbers = [1, 2]
    assert type(model.numbers) is not list
    assert model.numbers._storage == [1, 2]


@private("_functional", on=IS_KERAS3)
def test_functional_is_the_graph_inside_a_sequential_model():
    model = keras.Sequential([keras.Input((3,)), BN()])
    assert model._functional._nodes_by_depth


def test_the_class_of_graph_nodes_is_the_one_that_a_call_makes():
    """Not a private name, but a place that may move: then no line of a call is known."""
    model = transfer(training=False)
    backend = backend_for(model)
    node = backend.graph.nodes(model)[0][0]
    assert type(node) is backend.graph.node_class()
    assert weakref.ref(node)() is node


@private("_compile_config")
def test_compile_config_keeps_the_arguments_of_compile_as_they_are():
    def own_loss(y, y_pred):
        return (y - y_pred) ** 2

    model = transfer()
    model.compile("sgd", loss=own_loss, metrics=["mae"])
    config = model._compile_config.config
    assert config["loss"] is own_loss
    assert list(config["metrics"]) == ["mae"]


# --------------------------------------------------------------------- weights
@private("_trainable_variables _non_trainable_variables", on=IS_KERAS3)
def test_own_variables_of_a_keras_3_layer():
    layer = BN()
    layer.build((None, 2))
    assert [v.name for v in layer._trainable_variables] == ["gamma", "beta"]
    assert {v.name for v in layer._non_trainable_variables} >= {"moving_mean", "moving_variance"}
    assert not backbone()._trainable_variables


@private("_trainable_weights _non_trainable_weights", on=KERAS2)
def test_own_variables_of_a_keras_2_layer():
    layer = BN()
    layer.build((None, 2))
    assert len(layer._trainable_weights) == 2
    assert len(layer._non_trainable_weights) == 2
    assert not backbone()._trainable_weights


# ----------------------------------------------------------------------- flags
@private("_trainable")
def test_trainable_is_the_own_flag_of_one_layer():
    model = backbone()
    model._trainable = False
    assert not model.trainable
    assert model.get_layer("bn").trainable
    model.get_layer("bn").trainable = False
    assert model.get_layer("bn")._trainable is False


@private("_resolve_auto_jit_compile", on=IS_KERAS3)
def test_resolve_auto_jit_compile_gives_what_compile_takes_by_default():
    model = transfer()
    model.compile("sgd", "mse")
    assert model._resolve_auto_jit_compile() is model.jit_compile
    assert model.jit_compile or BACKEND != "jax"


@private("_compiled_trainable_state _get_trainable_state", on=KERAS2)
def test_compiled_trainable_state_keeps_the_flags_of_compile():
    model = compiled(transfer())
    model.get_layer("base").trainable = False
    state = model._compiled_trainable_state
    assert isinstance(state, weakref.WeakKeyDictionary)
    assert state[model.get_layer("base")] is True
    assert model._get_trainable_state()[model.get_layer("base")] is False


@private("_model _should_set_trainable _current_trainable_state _set_trainable_state", on=KERAS2)
def test_fit_keeps_the_users_flags_aside_in_an_object_with_these_attributes():
    import gc

    seen = []

    class Observer(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            for thing in gc.get_objects():
                if type(thing).__name__ != "RespectCompiledTrainableState":
                    continue
                if thing._model is self.model and thing._should_set_trainable:
                    seen.append(thing._current_trainable_state)

    model = compiled(transfer())
    model.get_layer("base").trainable = False
    model.fit(*data(8), verbose=0, callbacks=[Observer()])
    assert seen
    assert seen[0][model.get_layer("base")] is False
    assert callable(model._set_trainable_state)


# --------------------------------------------------------------------- context
@private("_call_context_args _call_has_training_arg", on=IS_KERAS3)
def test_a_layer_lists_the_context_arguments_its_call_takes():
    from keras.src.backend.common import global_state
    from keras.src.layers.layer import CallContext

    layer = BN(name="bn")
    assert "training" in layer._call_context_args or layer._call_has_training_arg
    seen = []

    class Observer(layers.Layer):
        def call(self, x):
            context = global_state.get_global_attribute("current_call_ctx")
            seen.append((isinstance(context, CallContext), context.training))
            return x

    inputs = keras.Input((1,))
    model = keras.Model(inputs, Observer()(inputs))
    model(keras.ops.zeros((1, 1)), training=True)
    assert seen[-1] == (True, True)
    CallContext(entry_layer=None).training = True
    assert global_state.get_global_attribute("current_call_ctx") is None


# ------------------------------------------------------------------ built in or not
@private("_USE_V2_BEHAVIOR", on=KERAS2)
def test_use_v2_behavior_distinguishes_the_old_bn_from_the_present_one():
    import tensorflow as tf

    old = tf.compat.v1.keras.layers.BatchNormalization
    if old.__module__.split(".")[0] == keras.__name__.split(".")[0]:
        assert old._USE_V2_BEHAVIOR is False
    assert BN._USE_V2_BEHAVIOR is True
    assert "BatchNormalizationBase" in [cls.__name__ for cls in BN.__mro__]


@private("_BatchNorm", on=BACKEND == "torch")
def test_batch_norm_is_the_base_of_every_torch_bn():
    import torch

    base = torch.nn.modules.batchnorm._BatchNorm
    for cls in (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.SyncBatchNorm):
        assert issubclass(cls, base)
    assert not issubclass(torch.nn.LayerNorm, base)


@private("_inbound_nodes _outbound_nodes")
def test_nodes_of_a_layer_are_lists_that_a_new_model_on_its_tensors_appends_to():
    model = transfer()
    head, out = model.get_layer("head_bn"), model.get_layer("out")
    assert [len(out._inbound_nodes), len(head._outbound_nodes)] == [1, 1]
    part = keras.Model(head.output, model.output)
    assert [len(out._inbound_nodes), len(head._outbound_nodes)] == [2, 1]
    del out._inbound_nodes[1:]
    assert len(out._inbound_nodes) == 1
    x = np.ones((2, *head.output.shape[1:]), "float32")
    assert as_array(part(x)).shape[0] == 2


@private("_manual_input_spec")
def test_manual_input_spec_turns_the_check_of_shapes_off():
    model = transfer()
    with pytest.raises(ValueError, match="shape"):
        model(np.ones((2, 9), "float32"))
    model.__dict__["_manual_input_spec"] = None
    assert model.input_spec is None
