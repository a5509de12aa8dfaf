"""The graph interface: layers inside layers, and nodes of functional graphs."""

from __future__ import annotations

import pytest

from tests.builders.models import (
    BN,
    Net,
    backbone,
    layers,
    transfer,
)
from tests.contract.models import BACKEND_OF
from tests.stack import IS_KERAS3, keras


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
