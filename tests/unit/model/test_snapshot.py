"""Every BN is found, wherever it is, under a path that is readable, unique and stable."""

from __future__ import annotations

import numpy as np
import pytest

from keras_bnguard.errors import UnsupportedModelError
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.records import BUILTIN, NormKind
from tests.stack import BACKEND, IS_KERAS3, STACK, keras

layers = keras.layers
BN = layers.BatchNormalization


def paths(model, **settings):
    return [norm.path for norm in take_snapshot(model, **settings).inventory.norms]


def norms(model, **settings):
    return {n.path: n for n in take_snapshot(model, **settings).inventory.norms}


def backbone(name="backbone"):
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="conv")(inputs)
    return keras.Model(inputs, BN(name="bn")(x), name=name)


def nested():
    inputs = keras.Input((4,))
    x = backbone()(inputs)
    x = layers.Dense(2, name="head")(x)
    return keras.Model(inputs, BN(name="head_bn")(x), name="net")


class Block(layers.Layer):
    """A subclassed layer with its parts in attributes, a list and a dict."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3, name="dense")
        self.bn = BN(name="bn")
        self.more = [BN(name="list_a"), BN(name="list_b")]
        self.table = {"x": BN(name="in_dict")}

    def build(self, shape):
        self.dense.build(shape)
        for layer in [self.bn, *self.more, self.table["x"]]:
            layer.build((None, 3))
        self.built = True

    def call(self, x, training=None):
        x = self.bn(self.dense(x), training=training)
        for layer in self.more:
            x = layer(x, training=training)
        return self.table["x"](x, training=training)


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.block = Block(name="block")
        self.base = backbone()

    def call(self, x, training=None):
        return self.block(self.base(x, training=training), training=training)


def test_nested_models_give_paths_below_the_model_in_hand():
    assert paths(nested()) == ["backbone/bn", "head_bn"]
    assert paths(backbone()) == ["bn"]


def test_a_bn_knows_its_container_settings_and_size():
    found = norms(nested())["backbone/bn"]
    assert (found.container, found.class_name, found.kind) == (
        "backbone",
        "BatchNormalization",
        NormKind.KERAS,
    )
    assert (found.channels, found.built, found.at_default) == (3, True, True)
    assert found.momentum == pytest.approx(0.99)
    assert found.epsilon == pytest.approx(1e-3)
    assert (found.stats_dtype, found.builtin, found.behaviour) == ("float32", True, BUILTIN)
    assert (found.renorm, found.synchronized, found.aliases) == (False, False, ())


def test_statistics_that_were_trained_are_not_at_default():
    model = nested()
    weights = model.get_layer("head_bn").get_weights()
    weights[2] = weights[2] + 1
    model.get_layer("head_bn").set_weights(weights)
    found = norms(model)
    assert (found["head_bn"].at_default, found["backbone/bn"].at_default) == (False, True)


def test_a_subclassed_model_is_walked_through_attributes_lists_and_dicts():
    model = Subclassed(name="net")
    model(np.zeros((2, 4), np.float32))
    assert sorted(paths(model)) == [
        "backbone/bn",
        "block/bn",
        "block/in_dict",
        "block/list_a",
        "block/list_b",
    ]
    assert not take_snapshot(model).inventory.functional


def test_a_model_that_is_not_built_shows_what_it_has():
    model = keras.Sequential([layers.Dense(2), BN(name="bn")])
    found = norms(model)["bn"]
    assert (found.built, found.channels, found.at_default, found.stats_dtype) == (
        False,
        0,
        None,
        None,
    )


def test_wrapped_bn_is_found_below_its_wrapper():
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, layers.TimeDistributed(BN(name="inner"), name="over_time")(inputs))
    assert paths(model) == ["over_time/inner"]


def test_a_shared_layer_has_one_path_and_its_others_as_aliases():
    shared = BN(name="shared")
    a, b = keras.Input((3,)), keras.Input((3,))
    left = keras.Model(a, shared(a), name="left")
    right = keras.Model(b, shared(b), name="right")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Add()([left(inputs), right(inputs)]))
    (found,) = take_snapshot(model).inventory.norms
    assert (found.path, found.aliases) == ("left/shared", ("right/shared",))
    assert len(found.calls) == 2


def test_a_shared_layer_is_frozen_only_if_every_way_to_it_is():
    shared = BN(name="shared")
    a, b = keras.Input((3,)), keras.Input((3,))
    left = keras.Model(a, shared(a), name="left")
    right = keras.Model(b, shared(b), name="right")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Add()([left(inputs), right(inputs)]))
    left.trainable = False
    shared.trainable = True
    assert norms(model)["left/shared"].frozen_ancestors == ()
    right.trainable = False
    shared.trainable = True
    assert norms(model)["left/shared"].frozen_ancestors == ("left",)


def test_two_layers_of_one_name_get_two_paths():
    class Twins(keras.Model):
        def __init__(self):
            super().__init__(name="twins")
            self.a, self.b, self.c = BN(name="bn"), BN(name="bn"), BN(name="bn")

        def call(self, x, training=None):
            return self.c(self.b(self.a(x, training=training), training=training))

    assert paths(Twins()) == ["bn", "bn#2", "bn#3"]


def test_paths_are_the_same_for_every_copy_and_every_snapshot():
    model = nested()
    assert paths(model) == paths(model) == paths(nested()) == paths(keras.models.clone_model(model))


def test_a_model_that_is_a_bn_itself_or_has_none():
    inputs = keras.Input((3,))
    assert paths(BN(name="alone")) == ["alone"]
    assert paths(keras.Model(inputs, layers.Dense(2)(inputs))) == []


def test_frozen_ancestors_name_everything_above_that_is_frozen():
    model = nested()
    base = model.get_layer("backbone")
    base.trainable = False
    base.get_layer("bn").trainable = True
    found = norms(model)
    assert found["backbone/bn"].frozen_ancestors == ("backbone",)
    assert found["backbone/bn"].trainable
    assert found["head_bn"].frozen_ancestors == ()
    model.trainable = False
    base.get_layer("bn").trainable = True
    assert norms(model)["backbone/bn"].frozen_ancestors == ("net", "backbone")


def test_given_flags_count_instead_of_the_layers_own():
    model = nested()
    bn = model.get_layer("head_bn")
    assert not norms(model, flags={id(bn): False})["head_bn"].trainable
    assert norms(model)["head_bn"].trainable


def test_bn_are_marked_as_forced_and_stay_marked():
    snapshot = take_snapshot(nested())
    snapshot.mark_forced(("head_bn",), in_step=True)
    assert snapshot.inventory.norm("head_bn").forced_inference
    assert not snapshot.inventory.norm("backbone/bn").forced_inference
    assert snapshot.inventory.guarded
    snapshot.mark_forced(("backbone/bn",))
    assert all(norm.forced_inference for norm in snapshot.inventory.norms)
    assert snapshot.inventory.guarded


def test_the_flags_of_now_are_read_from_the_layers_not_from_the_snapshot():
    model = nested()
    backbone = model.get_layer("backbone")
    snapshot = take_snapshot(model, flags={id(backbone): False})
    assert snapshot.inventory.norm("backbone/bn").frozen_ancestors == ("backbone",)
    now = {norm.path: norm for norm in snapshot.norms_with_current_flags()}
    assert now["backbone/bn"].frozen_ancestors == ()
    model.get_layer("head_bn").trainable = False
    now = {norm.path: norm for norm in snapshot.norms_with_current_flags()}
    assert not now["head_bn"].trainable
    assert snapshot.inventory.norm("head_bn").trainable


@pytest.mark.parametrize("written", [True, False, None])
def test_the_training_written_at_a_graph_call_reaches_every_bn_below_it(written):
    inputs = keras.Input((4,))
    base = backbone()
    kwargs = {} if written is None else {"training": written}
    outputs = BN(name="after")(base(inputs, **kwargs))
    found = norms(keras.Model(inputs, outputs))
    (call,) = found["backbone/bn"].calls
    assert call.training is written
    assert call.owner == ("" if written is None else "backbone")
    (after,) = found["after"].calls
    assert after.training is None
    assert after.order > call.order


def test_the_nearest_written_value_wins():
    inner_inputs = keras.Input((3,))
    inner = keras.Model(inner_inputs, BN(name="bn")(inner_inputs, training=True), name="inner")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, inner(inputs, training=False))
    (call,) = norms(model)["inner/bn"].calls
    assert (call.training, call.owner) == (True, "inner/bn")


def test_layers_are_listed_with_flags_positions_and_weights():
    model = nested()
    model.get_layer("head").trainable = False
    found = take_snapshot(model).inventory.layers
    flags = {layer.path: layer for layer in found}
    assert [layer.position for layer in found] == list(range(len(found)))
    assert flags["head"].trainable is False
    assert flags["backbone/conv"].weighted
    assert not flags["backbone"].weighted
    assert flags["backbone/bn"].is_norm
    assert not flags["head"].is_norm
    assert flags["backbone/bn"].container == "backbone"


def test_a_layer_that_switches_training_on_is_listed_in_execution_order():
    class Noisy(layers.Layer):
        def call(self, x, training=True):
            return x

    inputs = keras.Input((4,))
    x = BN(name="before")(inputs)
    x = Noisy(name="noisy")(x)
    model = keras.Model(inputs, BN(name="after")(x))
    inventory = take_snapshot(model).inventory
    (default,) = inventory.training_defaults
    assert (default.path, default.class_name) == ("noisy", "Noisy")
    order = {n.path: n.calls[0].order for n in inventory.norms}
    assert order["before"] < default.order < order["after"]


def test_a_subclass_of_bn_is_measured_and_keras_own_is_not():
    class Mine(BN):
        pass

    inputs = keras.Input((3,))
    found = norms(keras.Model(inputs, Mine(name="mine")(inputs)))["mine"]
    assert (found.builtin, found.behaviour, found.class_name) == (False, BUILTIN, "Mine")


def test_compile_state_and_steps_are_noted():
    model = nested()
    fresh = take_snapshot(model).inventory
    assert (fresh.compiled, fresh.step_built, fresh.built) == (False, False, True)
    assert not fresh.compiled_flags_known
    assert fresh.model == "net"
    assert fresh.stack.name == STACK
    model.compile("sgd", "mse")
    assert take_snapshot(model).inventory.compiled
    x = np.zeros((2, 4), np.float32)
    model.fit(x, x[:, :2], verbose=0)
    assert take_snapshot(model).inventory.step_built


def test_compiled_flags_are_known_where_keras_keeps_them():
    model = nested()
    model.get_layer("head").trainable = False
    model.compile("sgd", "mse")
    model.get_layer("head").trainable = True
    inventory = take_snapshot(model).inventory
    if not inventory.compiled_flags_known:
        assert IS_KERAS3
        return
    flags = {layer.path: (layer.trainable, layer.compiled) for layer in inventory.layers}
    assert flags["head"] == (True, False)
    assert inventory.norm("head_bn").compiled_trainable is True


def test_other_compiled_models_that_share_bn_are_found():
    base = backbone()
    inputs = keras.Input((4,))
    other = keras.Model(inputs, base(inputs), name="other")
    base.compile("sgd", "mse")
    base.trainable = False
    other.compile("sgd", "mse")
    shared = take_snapshot(base).shared_norms()
    known = {s.other for s in shared}
    if take_snapshot(base).inventory.compiled_flags_known:
        assert "other" in known
        (one,) = (s for s in shared if s.other == "other")
        assert (one.path, one.here, one.there, one.other_contains_model) == (
            "bn",
            True,
            False,
            True,
        )


def test_other_models_are_searched_only_where_it_matters():
    base = backbone()
    base.compile("sgd", "mse")
    assert take_snapshot(base).inventory.shared is None
    base.trainable = False  # A frozen BN at its defaults: another model may train it.
    assert take_snapshot(base).inventory.shared is not None


def test_a_snapshot_changes_nothing_on_the_model():
    model = nested()
    model.compile("adam", "mse")
    before = [np.array(w) for w in model.get_weights()]
    attributes = [set(vars(layer)) for layer in model.layers]
    layers.Dense(1)
    name = layers.Dense(1).name
    take_snapshot(model).shared_norms()
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
    assert [set(vars(layer)) for layer in model.layers] == attributes
    first, second = int(name.rsplit("_", 1)[1]), int(layers.Dense(1).name.rsplit("_", 1)[1])
    assert second == first + 1


@pytest.mark.parametrize("thing", [None, 3, "model", np.zeros(2), keras])
def test_what_is_no_model_is_refused_by_name(thing):
    with pytest.raises(UnsupportedModelError, match="expected a Keras model or layer, got"):
        take_snapshot(thing)


@pytest.mark.skipif(BACKEND != "torch", reason="torch modules can only be wrapped on torch")
def test_bn_in_torch_modules_is_found_by_the_modules_name():
    import torch

    net = torch.nn.Sequential(
        torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3, momentum=0.1), torch.nn.LayerNorm(3)
    )
    model = keras.Sequential([keras.Input((4,)), layers.TorchModuleWrapper(net, name="torch")])
    found = norms(model)["torch/1"]
    assert (found.kind, found.class_name, found.wrapper) == (
        NormKind.TORCH,
        "torch.nn.BatchNorm1d",
        "TorchModuleWrapper",
    )
    assert (found.momentum, found.channels) == (pytest.approx(0.9), 3)
    for parameter in net[1].parameters():
        parameter.requires_grad = False
    assert not norms(model)["torch/1"].trainable


def test_layers_inside_a_shared_layer_have_every_path_that_leads_there():
    shared = keras.Sequential([keras.Input((3,)), BN(name="bn")], name="stem")
    a, b = keras.Input((3,)), keras.Input((3,))
    left = keras.Model(a, shared(a), name="left")
    right = keras.Model(b, layers.Dense(3, name="own")(shared(b)), name="right")
    inputs = keras.Input((3,))
    snapshot = take_snapshot(keras.Model(inputs, layers.Add()([left(inputs), right(inputs)])))
    expected = {"left/stem": ["right/stem"], "left/stem/bn": ["right/stem/bn"]}
    assert expected.items() <= snapshot.aliases.items()
    (found,) = snapshot.inventory.norms
    assert (found.path, found.aliases) == ("left/stem/bn", ("right/stem/bn",))
    for selector in ("left", "right", "right/stem", "*stem/bn", "re:^right"):
        assert snapshot.select_norms(selector) == ("left/stem/bn",)


def test_paths_of_layers_that_share_layers_are_counted_up_to_a_limit():
    layer = BN(name="deep")
    for depth in range(12):
        both = []
        for side in ("a", "b"):
            inputs = keras.Input((3,))
            both.append(keras.Model(inputs, layer(inputs), name=f"{side}{depth}"))
        inputs = keras.Input((3,))
        layer = keras.Model(
            inputs, layers.Add()([each(inputs) for each in both]), name=f"level{depth}"
        )
    (found,) = take_snapshot(layer).inventory.norms
    assert len(found.aliases) == 64
