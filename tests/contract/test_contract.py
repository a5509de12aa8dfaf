"""One contract for every adapter, checked against what the Keras in hand really does."""

from __future__ import annotations

import os
import threading
import warnings

import numpy as np
import pytest

from keras_bnguard.backends.patches import model_hooks
from keras_bnguard.backends.patches.attribute_patches import open_patches
from keras_bnguard.backends.patches.call_tracer import CallTracer
from keras_bnguard.backends.patches.first_step import FirstStep
from keras_bnguard.backends.patches.inference_mode import ForcedInference
from keras_bnguard.backends.registry import any_backend, backend_for, loaded_backends
from keras_bnguard.errors import UnsupportedModelError
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.records import NormKind
from tests.builders.models import (
    BN,
    Net,
    adam,
    as_array,
    backbone,
    data,
    layers,
    sgd,
    statistics,
    transfer,
)
from tests.stack import BACKEND, IS_KERAS3, STACK, VERSION, keras

KERAS2 = not IS_KERAS3
BACKEND_OF = backend_for(layers.Dense(1))


def spy_on(model):
    snapshot = take_snapshot(model)
    return CallTracer(snapshot.backend, model, snapshot.handles, snapshot.paths)


def compiled(model, optimizer=None, **settings):
    model.compile(optimizer or sgd(), "mse", **settings)
    return model


def fit(model, epochs=1, **settings):
    x, y = data(16)
    model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, **settings)
    return model


# -------------------------------------------------------------------- identity
def test_the_adapter_is_that_of_the_stack_under_test():
    assert BACKEND_OF.name == STACK
    assert BACKEND_OF.backend == BACKEND
    assert BACKEND_OF.version == VERSION
    assert backend_for(transfer()) is BACKEND_OF
    assert BACKEND_OF in loaded_backends()
    assert any_backend(BACKEND_OF.package) is BACKEND_OF
    stack = BACKEND_OF.stack
    assert (stack.name, stack.backend, stack.version) == (STACK, BACKEND, VERSION)
    assert stack is BACKEND_OF.stack
    assert BACKEND_OF.graph.is_model(transfer())
    assert not BACKEND_OF.graph.is_model(BN())
    assert BACKEND_OF.graph.is_layer(BN())
    assert not BACKEND_OF.graph.is_layer("bn")


@pytest.mark.parametrize("thing", [None, 1, "x", np.zeros(1), dict])
def test_what_is_no_layer_is_refused(thing):
    with pytest.raises(UnsupportedModelError, match="expected a Keras model or layer"):
        backend_for(thing)


# ------------------------------------------------------------------- self-test
def moves(model, layer, **settings):
    """Whether a real `fit` moves the statistics of a live, stock BN."""
    before = statistics(layer)
    fit(compiled(model), **settings)
    return statistics(layer) != before


def test_behaviour_graph_false_is_what_fit_shows():
    model = transfer(training=False)
    held = not moves(model, model.get_layer("base").get_layer("bn"))
    assert BACKEND_OF.stack.behaviour.graph_false_honoured is held


def test_behaviour_a_leak_in_a_graph_is_what_fit_shows():
    model = transfer(training=False)
    live = moves(model, model.get_layer("head_bn"))
    assert BACKEND_OF.stack.behaviour.false_leaks_in_graph is not live


def test_behaviour_graph_true_is_what_predict_shows():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, BN(name="bn")(inputs, training=True))
    x, _ = data(16)
    by_batch = abs(float(np.mean(model.predict(x, batch_size=16, verbose=0)))) < 0.1
    assert BACKEND_OF.stack.behaviour.graph_true_at_inference is by_batch


def test_behaviour_a_leak_in_a_call_is_what_fit_shows():
    class Pair(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = BN(name="one"), BN(name="two")
            self.out = layers.Dense(1)

        def call(self, x):
            return self.out(self.two(self.one(x, training=False)))

    model = Pair()
    model(data(4)[0])
    live = moves(model, model.two)
    assert BACKEND_OF.stack.behaviour.false_leaks_in_call is not live


def test_behaviour_a_default_of_true_is_what_a_plain_call_shows():
    class TrainingDefault(layers.Layer):
        def call(self, x, training=True):
            return x

    inputs = keras.Input((4,))
    model = keras.Model(inputs, BN(name="after")(TrainingDefault()(inputs)))
    by_batch = abs(float(np.mean(as_array(model(data(16)[0]))))) < 0.1
    assert BACKEND_OF.stack.behaviour.default_leaks is by_batch


def test_behaviour_of_the_setter_is_what_a_container_shows():
    base = backbone()
    base.get_layer("bn").trainable = False
    base.trainable = True
    skipped = not base.get_layer("bn").trainable
    assert BACKEND_OF.stack.behaviour.setter_skips_equal is skipped


# ------------------------------------------------------------------- structure
def test_children_are_the_direct_ones_and_all_layers_each_once():
    model = transfer()
    children = [c.name for c in BACKEND_OF.graph.children(model)]
    assert [n for n in children if not n.startswith("input")] == [
        "base",
        "hidden",
        "head_bn",
        "out",
    ]
    names = [layer.name for layer in BACKEND_OF.graph.all_layers(model)]
    assert len(names) == len(set(names))
    assert {"net", "base", "bn", "drop", "out"} <= set(names)


def test_graph_nodes_come_in_execution_order():
    model = transfer()
    called = [layer.name for _, layer in BACKEND_OF.graph.nodes(model)]
    assert called == ["base", "hidden", "head_bn", "out"]
    sequential = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="a"), BN(name="b")])
    assert [layer.name for _, layer in BACKEND_OF.graph.nodes(sequential)] == ["a", "b"]
    assert BACKEND_OF.graph.is_functional(sequential)
    assert not BACKEND_OF.graph.is_functional(Net())
    assert not BACKEND_OF.graph.is_functional(BN())


@pytest.mark.parametrize("value", [True, False, None])
def test_node_training_is_what_was_written_at_the_call(value):
    inputs = keras.Input((4,))
    base = backbone()
    by_name = keras.Model(inputs, base(inputs) if value is None else base(inputs, training=value))
    ((node, _),) = BACKEND_OF.graph.nodes(by_name)
    assert BACKEND_OF.graph.node_training(node) is value


@pytest.mark.parametrize("value", [True, False])
def test_node_training_written_by_position_counts_too(value):
    inputs = keras.Input((4,))
    if IS_KERAS3:
        # Keras 3 takes only tensors by position.
        with pytest.raises(ValueError, match="positional"):
            BN()(inputs, value)
        return
    ((node, _),) = BACKEND_OF.graph.nodes(keras.Model(inputs, BN()(inputs, value)))
    assert BACKEND_OF.graph.node_training(node) is value


def test_a_default_of_true_is_read_off_the_class():
    class TrainingDefault(layers.Layer):
        def call(self, x, training=True):
            return x

    assert BACKEND_OF.graph.defaults_to_training(TrainingDefault())
    assert not BACKEND_OF.graph.defaults_to_training(BN())
    assert not BACKEND_OF.graph.defaults_to_training(layers.Dense(1))


def test_containers_own_no_weights():
    model = transfer()
    assert not BACKEND_OF.graph.owns_weights(model)
    assert BACKEND_OF.graph.owns_weights(model.get_layer("out"))
    assert not BACKEND_OF.graph.owns_weights(model.get_layer("base").get_layer("drop"))


# --------------------------------------------------------------------- handles
def built(layer, width=3):
    layer.build((None, width))
    return layer


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
    builtin, (live, frozen, _) = behaviour_of(built(Always()))
    assert (builtin, live, frozen) == (False, True, True)


def test_a_class_that_cannot_be_made_anew_is_not_measured():
    class Stubborn(BN):
        def __init__(self, thing):
            super().__init__()
            self.thing = thing

    (handle,) = BACKEND_OF.graph.handles(built(Stubborn(object())), "bn")
    assert BACKEND_OF.values.norm_behaviour(handle) is None


if KERAS2:

    def test_the_old_bn_of_tf1_is_no_stock_bn():
        import tensorflow as tf

        old = tf.compat.v1.keras.layers.BatchNormalization
        if not BACKEND_OF.graph.is_layer(old()):
            pytest.fail(f"{old} is no layer of {BACKEND_OF.package}")
        builtin, (live, frozen, by_batch) = behaviour_of(built(old()))
        assert (builtin, live) == (False, True)
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


# --------------------------------------------------------------------- numbers
def test_values_are_read_bit_for_bit_and_as_copies():
    layer = built(BN())
    values = np.array([[1, np.nan, -0.0], [3, 1e-42, np.inf], [5, 6, 7], [8, 9, 1e38]], np.float32)
    layer.set_weights([values[2], values[3], values[0], values[1]])
    stored = [w.tobytes() for w in layer.get_weights()]
    (handle,) = BACKEND_OF.graph.handles(layer, "bn")
    state, vectors = BACKEND_OF.values.state(handle), handle.vectors()
    found = [state.gamma, state.beta, state.mean, state.variance]
    assert [v.tobytes() for v in found] == stored
    flat = BACKEND_OF.values.flat(vectors)
    assert flat.tobytes() == b"".join([stored[2], stored[3], stored[0], stored[1]])
    for array in (*found, flat, BACKEND_OF.values.to_numpy(vectors[0])):
        array[...] = 0
    assert [w.tobytes() for w in layer.get_weights()] == stored
    state = BACKEND_OF.values.state(handle)
    layer.set_weights([np.zeros(3, np.float32)] * 4)
    assert state.mean.tobytes() == stored[2]
    assert BACKEND_OF.values.state(handle, affine=False).gamma is None
    assert len(BACKEND_OF.values.flat([])) == 0


def test_a_reader_sees_what_is_there_each_time_and_keeps_nothing():
    layer = built(BN())
    (handle,) = BACKEND_OF.graph.handles(layer, "bn")
    mean, variance, gamma, _ = handle.vectors()
    read = BACKEND_OF.values.reader([variance, mean, gamma])
    before = read()
    layer.set_weights([np.full(3, value, np.float32) for value in (9, 0, 5, 7)])
    assert before.tolist() == [1, 1, 1, 0, 0, 0, 1, 1, 1]
    assert read().tolist() == [7, 7, 7, 5, 5, 5, 9, 9, 9]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_dtypes_are_read_too(dtype):
    if BACKEND == "jax" and dtype == "float64":
        dtype = "float32"  # JAX has no float64 unless it is told to.
    layer = built(BN(dtype=dtype))
    (handle,) = BACKEND_OF.graph.handles(layer, "bn")
    mean, variance, _, _ = handle.vectors()
    assert BACKEND_OF.values.dtype_of(mean) in (dtype, "float32")
    assert BACKEND_OF.values.flat([mean, variance]).astype(float).tolist() == [0, 0, 0, 1, 1, 1]
    assert BACKEND_OF.values.state(handle).variance.astype(float).tolist() == [1, 1, 1]


# ----------------------------------------------------------------------- flags
def test_the_own_flag_is_set_and_nothing_below():
    base = backbone()
    BACKEND_OF.flags.set_own(base, False)
    assert base.trainable is False
    assert base.get_layer("bn").trainable is True
    bn = base.get_layer("bn")
    BACKEND_OF.flags.set_own(bn, False)
    assert len(bn.trainable_variables) == 0
    BACKEND_OF.flags.set_own(base, True)
    assert bn.trainable is False
    BACKEND_OF.flags.set_own(bn, True)
    assert len(bn.trainable_variables) == 2


def test_compiled_and_pending_flags():
    model = compiled(transfer())
    head = model.get_layer("head_bn")
    head.trainable = False
    flags = BACKEND_OF.flags.compiled(model)
    assert BACKEND_OF.flags.pending(model) == {}
    if flags is None:
        assert IS_KERAS3
    else:
        assert flags[id(head)] is True
    seen = {}

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.update(BACKEND_OF.flags.pending(model))

    if KERAS2:
        fit(model, callbacks=[Look()])
        assert seen[id(head)] is False
        assert head.trainable is False
        BACKEND_OF.flags.remember_compiled(model)
        assert BACKEND_OF.flags.compiled(model)[id(head)] is False


def test_a_step_that_ran_is_a_step_that_is_built():
    model = compiled(transfer())
    assert not BACKEND_OF.step.is_built(model)
    assert BACKEND_OF.optimizer.iterations(model) == 0
    fit(model)
    assert BACKEND_OF.step.is_built(model)
    assert BACKEND_OF.optimizer.iterations(model) == 2
    assert BACKEND_OF.step.has_train_function(model)
    BACKEND_OF.step.drop_train_function(model)
    assert not BACKEND_OF.step.has_train_function(model)
    BACKEND_OF.step.rebuild_train_function(model)
    assert BACKEND_OF.step.has_train_function(model)
    assert BACKEND_OF.optimizer.iterations(keras.Sequential([layers.Dense(1)])) == 0


# ------------------------------------------------------------------- optimizer
def make(name):
    """Optimizers to carry state of, by a name."""
    o = keras.optimizers
    known = {
        "adam": lambda: o.Adam(0.01),
        "momentum": lambda: o.SGD(0.01, momentum=0.9),
        "rmsprop": lambda: o.RMSprop(0.01, momentum=0.5, centered=True),
        "adamw": lambda: o.AdamW(0.01, weight_decay=0.01),
        "ema": lambda: o.SGD(0.01, use_ema=True, ema_momentum=0.5),
        "amsgrad": lambda: o.Adam(0.01, amsgrad=True),
    }
    if KERAS2:
        known["legacy adam"] = lambda: o.legacy.Adam(0.01)
        known["loss scale"] = lambda: keras.mixed_precision.LossScaleOptimizer(o.Adam(0.01))
    else:
        known["loss scale"] = lambda: o.LossScaleOptimizer(o.Adam(0.01), initial_scale=8.0)
        known["accumulated"] = lambda: o.Adam(0.01, gradient_accumulation_steps=4)
    if STACK == "k2":

        def addons():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import tensorflow_addons

                return tensorflow_addons.optimizers.AdamW(weight_decay=0.01, learning_rate=0.01)

        known["addons adamw"] = addons
    return known[name]() if name else list(known)


def slots(model):
    """name of the variable -> multiset of its slots' values, by the optimizer's own naming."""
    optimizer = getattr(model.optimizer, "inner_optimizer", None) or model.optimizer
    found = {}
    if hasattr(optimizer, "get_slot") and hasattr(optimizer, "get_slot_names"):
        for variable in model.trainable_variables:
            names = optimizer.get_slot_names()
            values = [optimizer.get_slot(variable, n) for n in names]
            found[id(variable)] = [v.numpy().tobytes() for v in values]
        return found
    known = getattr(optimizer, "_trainable_variables", None)
    if KERAS2:
        index = optimizer._index_dict
        known = sorted(
            (v for v in model.trainable_variables if optimizer._var_key(v) in index),
            key=lambda v: index[optimizer._var_key(v)],
        )
        positions = [index[optimizer._var_key(v)] for v in known]
    else:
        positions = range(len(known))
    lists = [
        value
        for name, value in sorted(vars(optimizer).items())
        if isinstance(value, (list, tuple))
        and len(value)
        and name not in ("_trainable_variables", "_variables")
        and all(v is None or hasattr(v, "assign") for v in value)
        and len(value) >= len(positions)
    ]
    for position, variable in zip(positions, known):
        found[id(variable)] = [
            as_array(value[position]).tobytes()
            for value in lists
            if value[position] is not None and tuple(value[position].shape) == tuple(variable.shape)
        ]
    return found


@pytest.mark.parametrize("name", make(None))
def test_slots_of_variables_that_go_on_are_carried_bit_for_bit(name):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="a"), BN(name="bn"), layers.Dense(1, name="b")]
    )
    model.get_layer("a").trainable = False
    compiled(model, make(name))
    x, y = data(16)
    model.fit(x, y, batch_size=4, epochs=1, verbose=0)
    old, steps = slots(model), BACKEND_OF.optimizer.iterations(model)
    scale = loss_scale(model.optimizer)
    assert old
    assert any(any(np.frombuffer(v, np.uint8).any() for v in values) for values in old.values())
    model.get_layer("a").trainable = True
    model.get_layer("bn").trainable = False
    BACKEND_OF.optimizer.renew(model)
    BACKEND_OF.flags.remember_compiled(model)
    BACKEND_OF.step.rebuild_train_function(model)
    new = slots(model)
    for variable in model.get_layer("b").trainable_variables:
        assert new[id(variable)] == old[id(variable)]
    assert BACKEND_OF.optimizer.iterations(model) == steps > 0
    assert loss_scale(model.optimizer) == scale
    facts = BACKEND_OF.optimizer.facts(model)
    assert facts.unknown == ()
    before = model.get_layer("a").get_weights()[0].copy()
    still = [w.tobytes() for w in model.get_layer("bn").get_weights()]
    model.fit(x, y, batch_size=4, epochs=1, verbose=0)
    assert not np.array_equal(before, model.get_layer("a").get_weights()[0])
    assert [w.tobytes() for w in model.get_layer("bn").get_weights()] == still


def loss_scale(optimizer):
    if hasattr(optimizer, "dynamic_scale"):
        return float(as_array(optimizer.dynamic_scale)), int(as_array(optimizer.step_counter))
    scale = getattr(optimizer, "_loss_scale", None)
    return None if scale is None else float(as_array(scale._current_loss_scale))


def test_without_carry_every_slot_starts_fresh():
    model = fit(compiled(transfer(), adam()))
    carried, fresh = BACKEND_OF.optimizer.renew(model, carry=False)
    assert (carried, fresh) == (0, len(model.trainable_variables))
    assert BACKEND_OF.optimizer.iterations(model) == 0
    assert not any(np.frombuffer(v, np.uint8).any() for s in slots(model).values() for v in s)


def test_a_changed_learning_rate_goes_over():
    model = fit(compiled(transfer(), adam()))
    if KERAS2:
        keras.backend.set_value(model.optimizer.learning_rate, 0.125)
    else:
        model.optimizer.learning_rate = 0.125
    BACKEND_OF.optimizer.renew(model)
    assert float(as_array(model.optimizer.learning_rate)) == 0.125


def test_the_optimizer_says_what_it_knows():
    assert BACKEND_OF.optimizer.facts(transfer()) is None
    model = compiled(transfer(), adam())
    head = model.get_layer("head_bn")
    head.trainable = False
    compiled(model, adam())
    fit(model)
    facts = BACKEND_OF.optimizer.facts(model)
    assert (facts.class_name, facts.built, facts.iterations) == ("Adam", True, 2)
    assert facts.unknown == facts.stale == ()
    head.trainable = True
    model.get_layer("out").trainable = False
    facts = BACKEND_OF.optimizer.facts(model)
    assert sorted(name.rsplit("/", 1)[-1] for name in facts.unknown) == ["beta", "gamma"]
    if IS_KERAS3:
        assert sorted(name.rsplit("/", 1)[-1] for name in facts.stale) == ["bias", "kernel"]


# ------------------------------------------------------------------- run_watch
MAKE = "make_train_function"


class Listener:
    def __init__(self):
        self.trainable_changes, self.before, self.compiles = [], 0, []
        self.trainings, self.faults = [], []

    def before_flip(self, layer):
        self.before += 1

    def after_flip(self, flags, source):
        self.trainable_changes.append((flags, source))

    def after_compile(self, model, source):
        self.compiles.append((model, source))

    def before_training(self, model):
        self.trainings.append(model)

    def failed(self, error):
        self.faults.append(error)


def hooks():
    model = keras.Model.__dict__
    return layers.Layer.__dict__["trainable"], model.get("compile"), model.get(MAKE)


def test_assignments_of_trainable_are_told_once_with_their_line():
    listener, model, before = Listener(), transfer(), hooks()
    model_hooks.start(BACKEND_OF, listener)
    try:
        model.get_layer("base").trainable = False  # this very line
        assert listener.before == 1
        ((flags, source),) = listener.trainable_changes
        assert flags[id(model.get_layer("base").get_layer("bn"))] is False
        file, line = source.rsplit(":", 1)
        assert os.path.samefile(file, __file__)
        with open(__file__, encoding="utf-8") as text:
            assert "this very line" in text.readlines()[int(line) - 1]
        compiled(model)
        assert [m is model for m, _ in listener.compiles] == [True]
        assert listener.compiles[0][1].startswith(file)
    finally:
        model_hooks.stop(BACKEND_OF, listener)
    assert all(a is b for a, b in zip(hooks(), before))
    model.get_layer("base").trainable = True
    assert len(listener.trainable_changes) == 1


def test_what_cannot_be_read_after_an_assignment_does_not_reach_the_user(monkeypatch):
    def broken(layer):
        raise RuntimeError("ours")

    listener, model = Listener(), transfer()
    model_hooks.start(BACKEND_OF, listener)
    try:
        monkeypatch.setattr(BACKEND_OF.graph, "all_layers", broken)
        model.get_layer("base").trainable = False
    finally:
        model_hooks.stop(BACKEND_OF, listener)
    assert not model.get_layer("base").trainable
    assert [str(error) for error in listener.faults] == ["ours"]
    assert listener.trainable_changes == []


def test_a_new_step_is_told_before_it_is_made():
    listener, model = Listener(), compiled(transfer())
    model_hooks.start(BACKEND_OF, listener)
    try:
        fit(model)
    finally:
        model_hooks.stop(BACKEND_OF, listener)
    assert listener.trainings
    assert all(told is model for told in listener.trainings)


def test_fit_itself_flips_nothing():
    listener = Listener()
    model = compiled(transfer())
    model.get_layer("base").trainable = False
    model_hooks.start(BACKEND_OF, listener)
    try:
        model.get_layer("out").trainable = False
        heard = len(listener.trainable_changes)
        if KERAS2:
            fit(model)
        assert len(listener.trainable_changes) == heard == 1
    finally:
        model_hooks.stop(BACKEND_OF, listener)


def test_the_last_to_leave_puts_the_very_same_objects_back():
    before, listeners = hooks(), [Listener(), Listener()]
    for listener in listeners:
        model_hooks.start(BACKEND_OF, listener)
    model_hooks.stop(BACKEND_OF, listeners[0])
    assert hooks()[0] is not before[0]
    model_hooks.stop(BACKEND_OF, listeners[0])
    layers.Dense(1).trainable = False
    assert [len(listener.trainable_changes) for listener in listeners] == [0, 1]
    model_hooks.stop(BACKEND_OF, listeners[1])
    assert all(a is b for a, b in zip(hooks(), before))
    model_hooks.stop(BACKEND_OF, listeners[1])


def test_a_setter_that_raises_raises_as_before_and_is_not_deaf_after():
    class Moody(layers.Layer):
        @property
        def trainable(self):
            return True

        @trainable.setter
        def trainable(self, value):
            raise RuntimeError("no")

    listener = Listener()
    model_hooks.start(BACKEND_OF, listener)
    try:
        dense = layers.Dense(1)
        dense.trainable = False
        assert len(listener.trainable_changes) == 1
        dense.trainable = True
        assert len(listener.trainable_changes) == 2
    finally:
        model_hooks.stop(BACKEND_OF, listener)


# --------------------------------------------------------------- spy and first step
def test_the_spy_writes_down_what_reached_each_bn():
    model = compiled(transfer(training=False))
    call = layers.Layer.__call__
    with spy_on(model) as tracer:
        model(data(4)[0], training=True)
    assert layers.Layer.__call__ is call
    (base,), (head,) = tracer.sites["base/bn"], tracer.sites["head_bn"]
    honoured = BACKEND_OF.stack.behaviour.graph_false_honoured
    # Where Keras overrides what the graph wrote, it does so before the layer is called.
    assert base.explicit is (False if honoured else None)
    assert base.arrived is not honoured
    assert (head.explicit, head.arrived) == (None, True)
    assert (base.values_per_channel, head.values_per_channel) == (4, 4)
    assert base.flag is True
    assert tracer.barrier.error is None


def test_the_spy_goes_away_after_an_exception_and_spies_may_cross():
    model, other = transfer(), backbone("other")
    call = layers.Layer.__call__
    with pytest.raises(ZeroDivisionError), spy_on(model):
        raise ZeroDivisionError
    first, second = spy_on(model), spy_on(other)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    model(data(4)[0])
    other(data(4)[0])
    second.__exit__(None, None, None)
    assert layers.Layer.__call__ is call
    assert open_patches() == 0
    assert not first.sites
    assert list(second.sites) == ["bn"]


def test_a_hold_inside_a_spy_holds_and_the_spy_sees_it():
    model = transfer()
    bn = model.get_layer("base").get_layer("bn")
    for first, second in ((0, 1), (1, 0)):
        tracer, before = spy_on(model), statistics(bn)
        pair = (tracer, ForcedInference(BACKEND_OF, [bn]))
        with pair[first], pair[second]:
            model(data(4)[0], training=True)
        assert statistics(bn) == before
        assert [site.arrived for site in tracer.sites["base/bn"]] == [False]
        assert open_patches() == 0


def test_the_first_step_is_seen_once_and_the_train_function_is_put_back():
    model = compiled(transfer())
    BACKEND_OF.step.rebuild_train_function(model)
    real, seen = model.train_function, []
    step = FirstStep(BACKEND_OF, model, spy_on(model), lambda: seen.append(model.train_function))
    step.arm()
    assert model.train_function is not real
    step.arm()
    step.disarm()
    assert model.train_function is real
    step.arm()
    x, y = data(8)
    model.train_on_batch(x, y)
    model.train_on_batch(x, y)
    assert seen == [real]
    assert model.train_function is real


def test_a_step_that_raises_leaves_the_real_train_function_and_call():
    model = compiled(transfer())
    call = layers.Layer.__call__

    def fails(*args, **kwargs):
        raise ZeroDivisionError

    model.train_function = fails
    step = FirstStep(BACKEND_OF, model, spy_on(model), lambda: None)
    step.arm()
    with pytest.raises(ZeroDivisionError):
        model.train_function(None)
    assert model.train_function is fails
    assert layers.Layer.__call__ is call
    assert open_patches() == 0


# ----------------------------------------------------------------------- holds
def test_a_hold_may_be_entered_again_and_the_last_one_out_restores():
    bn = built(BN())
    hold, other = ForcedInference(BACKEND_OF, [bn]), ForcedInference(BACKEND_OF, [bn])
    call = bn.call
    with hold:
        with hold, other:
            assert open_patches() == 1
        assert "call" in vars(bn)
    assert "call" not in vars(bn)
    assert bn.call == call
    assert open_patches() == 0


def test_holds_in_two_threads_restore_when_both_are_out():
    bn = built(BN())
    hold, gate, inside = ForcedInference(BACKEND_OF, [bn]), threading.Event(), threading.Event()

    def other():
        with hold:
            inside.set()
            gate.wait(10)

    thread = threading.Thread(target=other)
    with hold:
        thread.start()
        assert inside.wait(10)
    assert "call" in vars(bn)
    gate.set()
    thread.join()
    assert "call" not in vars(bn)
    assert open_patches() == 0


def test_what_was_on_the_instance_before_comes_back():
    bn = built(BN())
    mine = bn.call
    object.__setattr__(bn, "call", mine)
    with ForcedInference(BACKEND_OF, [bn]):
        assert vars(bn)["call"] is not mine
    assert vars(bn)["call"] is mine


def test_a_hold_that_cannot_be_put_on_takes_everything_off_again():
    bn = built(BN())
    hold = ForcedInference(BACKEND_OF, [bn], modules=[object()])
    with pytest.raises(AttributeError):
        hold.__enter__()
    assert open_patches() == 0
    assert "call" not in vars(bn)
