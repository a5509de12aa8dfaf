"""How BN runs in each phase: measured by which statistics changed."""

from __future__ import annotations

from typing import Any, List

import pytest

import keras_bnguard as bng
from tests.builders import schedules as r
from tests.builders.schedules import STACK

BN = ["backbone/bn1", "backbone/bn2", "head_bn"]


def changed(model: Any, phases: List[bng.Phase], epochs: int = 2) -> List[str]:
    before = [r.statistics(model, path) for path in BN]
    r.fit(model, epochs, [r.scheduler(phases)])
    after = [r.statistics(model, path) for path in BN]
    return [path.split("/")[-1] for path, a, b in zip(BN, before, after) if a != b]


@pytest.mark.parametrize("training", [None, False])
def test_a_pretrained_backbone_runs_in_inference_mode_in_every_phase_and_the_head_trains(training):
    model = r.compiled(r.transfer(training))
    gamma = r.as_array(model.get_layer("backbone").get_layer("bn1").gamma)
    assert changed(model, r.head_then_all(1, 1)) == ["head_bn"]
    assert not r.same([gamma], [r.as_array(model.get_layer("backbone").get_layer("bn1").gamma)])


def test_the_statistics_of_a_fresh_backbone_change_once_it_trains():
    assert changed(r.compiled(r.transfer(trained=False)), r.head_then_all(1, 1)) == [
        "bn1",
        "bn2",
        "head_bn",
    ]


def test_affine_only_forces_every_norm():
    phases = [bng.Phase("a", train="*", epochs=2, batch_norm="affine-only")]
    assert changed(r.compiled(r.transfer()), phases) == []


def test_bn_only_training_of_a_frozen_backbone():
    model = r.compiled(r.transfer())
    dense = model.get_layer("backbone").get_layer("dense1").get_weights()
    phases = [bng.Phase("a", train="head*", epochs=2, batch_norm="train")]
    assert changed(model, phases) == ["bn1", "bn2", "head_bn"]
    assert r.same(dense, model.get_layer("backbone").get_layer("dense1").get_weights())


def test_follow_is_plain_keras():
    phases = r.head_then_all(1, 1, batch_norm="follow")
    assert changed(r.compiled(r.transfer()), phases) == ["bn1", "bn2", "head_bn"]


def test_a_frozen_encoder_is_unfrozen_by_slices_of_its_layers():
    """`for layer in model.layers[0:19]: layer.trainable = False`, then all."""
    model = r.compiled(r.transfer())
    frozen = {id(layer) for layer in model.get_layer("backbone").layers}
    outside = {id(layer) for layer in model.layers if layer.name != "backbone"} - frozen
    phases = [
        bng.Phase("decoder", train=lambda layer: id(layer) in outside, epochs=1),
        bng.Phase("all", train="*", learning_rate=1e-5, epochs=1),
    ]
    seen = r.At(begin=lambda model, epoch: r.trainable_names(model))
    r.fit(model, 2, [r.scheduler(phases), seen])
    assert [len(names) for names in seen.seen] == [3, 7]


@pytest.mark.skipif(STACK != "k3-torch", reason="torch modules live in Keras on torch only")
def test_a_torch_extractor_in_eval_mode_keeps_its_statistics():
    import torch

    from tests.builders.schedules import keras

    class Extractor(keras.layers.TorchModuleWrapper):
        def compute_output_shape(self, *args, **kwargs):
            return (None, 6)

    norm = torch.nn.BatchNorm1d(6)
    norm.running_mean += 0.5
    inputs = keras.Input((6,))
    x = Extractor(norm, name="extractor")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, name="head", activation="sigmoid")(x))
    r.compiled(model)
    before = norm.running_mean.clone()
    r.fit(model, 2, [r.scheduler([bng.Phase("head", train="head", epochs=2)])])
    assert torch.equal(before, norm.running_mean)
