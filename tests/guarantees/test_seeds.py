"""The schedules people write by hand in this field, each on a tiny model of its kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders import schedules as r
from tests.builders.schedules import STACK, L, keras

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 8, 8, 1)).astype("float32")
Y = (X.mean(axis=(1, 2)) > 0).astype("float32")


def fit(model: Any, epochs: int, *callbacks: Any) -> None:
    model.fit(X, Y, epochs=epochs, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)


def compiled(model: Any, learning_rate: float) -> Any:
    return r.compiled(model, "Adam", learning_rate)


def set_weights(model: Any) -> Any:
    """The same uniform numbers every time; a BN that has seen data has its own."""
    rng = np.random.default_rng(7)
    for layer in r.leaves(model):
        values = [rng.uniform(-0.5, 0.5, w.shape) for w in layer.get_weights()]
        if len(values) == 4:
            values[3] = np.abs(values[3]) + 1
        if values:
            layer.set_weights(values)
    return model


# ------------------------------------------------------- autoencoder: encoder and head
def autoencoder_classifier() -> Any:
    """Input, six times convolution, BN, ReLU: layers[0:19] are the encoder; then the head."""
    inputs = x = keras.Input((8, 8, 1))
    for i in range(6):
        x = L.Conv2D(2, 3, strides=2 if i == 2 else 1, padding="same", name=f"conv{i}")(x)
        x = L.BatchNormalization(name=f"bn{i}")(x)
        x = L.ReLU(name=f"relu{i}")(x)
    x = L.Dense(4, activation="relu", name="fc")(L.Flatten(name="flat")(x))
    outputs = L.Dense(1, activation="sigmoid", name="out")(x)
    return set_weights(keras.Model(inputs, outputs, name="full_model"))


def test_the_first_19_layers_frozen_then_unfrozen_equal_the_tutorial():
    many = autoencoder_classifier()
    assert many.layers[18].name == "relu5"
    for flag, learning_rate in ((False, 1e-2), (True, 1e-4)):
        for layer in many.layers[0:19]:
            layer.trainable = flag
        fit(compiled(many, learning_rate), 1)

    one = autoencoder_classifier()
    encoder = {id(layer) for layer in one.layers[0:19]}
    phases = [
        bng.Phase(
            "classifier",
            train=lambda layer: id(layer) not in encoder,
            learning_rate=1e-2,
            epochs=1,
            batch_norm="follow",
        ),
        bng.Phase("full", train="*", learning_rate=1e-4, epochs=1, batch_norm="follow"),
    ]
    fit(compiled(one, 0.5), 2, r.scheduler(phases, optimizer_state="reset"))
    assert r.same(r.weights(one), r.weights(many))
    assert r.same(r.optimizer_variables(one), r.optimizer_variables(many))


# ------------------------------------------------------- BN alone, in an EfficientNet
def efficient_net() -> Any:
    """Two inverted bottlenecks with squeeze and excitation, named as Keras names them."""
    inputs = keras.Input((8, 8, 1))
    x = L.Conv2D(4, 3, padding="same", use_bias=False, name="stem_conv")(inputs)
    x = L.Activation("swish", name="stem_activation")(L.BatchNormalization(name="stem_bn")(x))
    for block in ("block1a", "block2a"):
        start = x
        x = L.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{block}_dwconv")(x)
        x = L.Activation("swish")(L.BatchNormalization(name=f"{block}_bn")(x))
        se = L.GlobalAveragePooling2D(keepdims=True, name=f"{block}_se_squeeze")(x)
        se = L.Conv2D(1, 1, activation="swish", name=f"{block}_se_reduce")(se)
        se = L.Conv2D(4, 1, activation="sigmoid", name=f"{block}_se_expand")(se)
        x = L.Multiply(name=f"{block}_se_excite")([x, se])
        x = L.Conv2D(4, 1, use_bias=False, name=f"{block}_project_conv")(x)
        x = L.BatchNormalization(name=f"{block}_project_bn")(x)
        x = L.Add(name=f"{block}_add")([x, start])
    base = keras.Model(inputs, x, name="efficientnet")
    outer = keras.Input((8, 8, 1))
    pooled = L.GlobalAveragePooling2D()(base(outer))
    return set_weights(keras.Model(outer, L.Dense(1, activation="sigmoid", name="head")(pooled)))


def test_bn_alone_trains_in_a_frozen_efficientnet():
    model = efficient_net()
    layers = list(r.leaves(model))
    before = [layer.get_weights() for layer in layers]
    phases = [
        bng.Phase(
            "adapt",
            train=["head", L.BatchNormalization],
            learning_rate=1e-2,
            epochs=1,
            batch_norm="follow",
        )
    ]
    fit(compiled(model, 0.5), 1, r.scheduler(phases))
    changed = {
        layer.name
        for layer, values in zip(layers, before)
        if not r.same(values, layer.get_weights())
    }
    norms = [layer for layer in layers if isinstance(layer, L.BatchNormalization)]
    assert len(norms) == 5
    assert changed == {"head", *(layer.name for layer in norms)}
    for layer, values in zip(layers, before):
        if layer in norms:
            moved = [not r.same([a], [b]) for a, b in zip(values, layer.get_weights())]
            assert moved == [True] * 4, layer.name


# ------------------------------------------------------- a torch ResNet in eval mode
@pytest.mark.skipif(STACK != "k3-torch", reason="torch modules live in Keras on torch only")
def test_a_torch_resnet_extracts_in_eval_mode_then_trains_with_its_statistics_frozen():
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(size, size, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(size)
            self.conv2 = nn.Conv2d(size, size, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(size)

        def forward(self, x: Any) -> Any:
            out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(out + x)

    class ResNet(L.TorchModuleWrapper):
        def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
            return (None, 4)

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        Block(4),
        Block(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    images = torch.as_tensor(X.transpose(0, 3, 1, 2).copy())
    net.train()(images)  # It has seen data.
    inputs = keras.Input((1, 8, 8))
    outputs = L.Dense(1, activation="sigmoid", name="head")(ResNet(net, name="resnet")(inputs))
    model = compiled(keras.Model(inputs, outputs), 1e-2)
    buffers = {k: v.clone() for k, v in net.named_buffers()}
    start = {k: v.detach().clone() for k, v in net.named_parameters()}
    seen = r.At(end=lambda m, e: {k: v.detach().clone() for k, v in net.named_parameters()})
    phases = [
        bng.Phase("head", train="head", learning_rate=1e-2, epochs=1),
        bng.Phase("all", train="*", learning_rate=1e-3, epochs=1),
    ]
    model.fit(images.numpy(), Y, epochs=2, batch_size=8, verbose=0,
              callbacks=[r.scheduler(phases), seen])  # fmt: skip
    assert all(torch.equal(start[k], v) for k, v in seen.seen[0].items())
    assert all(not torch.equal(start[k], v) for k, v in seen.seen[1].items())
    assert len(buffers) == 15
    assert all(torch.equal(buffers[k], v) for k, v in net.named_buffers())
