"""BNG501 is about the input of the model, or of a pretrained part of it, and not of its blocks."""

from __future__ import annotations

from typing import Any, List

import numpy as np
import pytest

import keras_bnguard as bng
from tests.stack import keras

layers = keras.layers
X = np.random.default_rng(0).uniform(-1, 1, (64, 6)).astype("float32")


class Block(layers.Layer):
    """A composite layer, as many packages make their networks of."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.dense = layers.Dense(6, name="dense")
        self.bn = layers.BatchNormalization(name="bn")

    def build(self, shape: Any) -> None:
        self.dense.build(shape)
        self.bn.build(shape)
        self.built = True

    def call(self, x: Any, training: Any = None) -> Any:
        return self.bn(self.dense(x), training=training)

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def small_model(name: str) -> Any:
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(6), layers.BatchNormalization(name="bn")], name=name
    )


def of_blocks(make: Any) -> Any:
    inputs = x = keras.Input((6,))
    for number in range(4):
        x = make(name=f"block{number}")(x)
    return keras.Model(inputs, layers.Dense(1)(x), name="net")


def norms(model: Any) -> List[Any]:
    return [
        layer.bn if isinstance(layer, Block) else layer.get_layer("bn")
        for layer in model.layers[1:-1]
    ]


def with_statistics(model: Any, off: int) -> Any:
    """Statistics that describe X, but for one BN."""
    for number, norm in enumerate(norms(model)):
        variance = 1e-5 if number == off else 1.0
        norm.set_weights([np.ones(6), np.zeros(6), np.full(6, 0.1), np.full(6, variance)])
    return model


@pytest.mark.parametrize("make", [Block, small_model])
def test_a_block_inside_is_no_evidence_about_the_input(make: Any) -> None:
    assert "BNG501" not in bng.audit(with_statistics(of_blocks(make), off=2), X).codes


@pytest.mark.parametrize("make", [Block, small_model])
def test_the_first_block_is_the_input(make: Any) -> None:
    found = bng.audit(with_statistics(of_blocks(make), off=0), X).findings
    (scale,) = [each for each in found if each.code == "BNG501"]
    assert scale.layers == ("block0/bn",)


def test_a_pretrained_part_after_other_layers_has_an_input_of_its_own() -> None:
    inside = with_statistics(of_blocks(Block), off=0)
    inputs = keras.Input((6,))
    first = layers.BatchNormalization(name="first")
    model = keras.Model(inputs, inside(first(inputs)))
    found = bng.audit(model, X).findings
    (scale,) = [each for each in found if each.code == "BNG501"]
    assert scale.layers == ("net/block0/bn",)
