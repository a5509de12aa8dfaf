"""What lies around a BN, in real graphs: convolutions, masks, time, call sites."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.records import Convolution, LostMask
from tests.stack import BACKEND, IS_KERAS3, STACK, keras

L = keras.layers


def graph_context(model: Any, path: str = "bn") -> Any:
    return take_snapshot(model).inventory.norm(path).graph_context


def bn(**settings: Any) -> Any:
    return L.BatchNormalization(name="bn", **settings)


def codes(model: Any) -> Any:
    return bng.audit(model, select="ALL").codes


# ------------------------------------------------------------------ convolutions
@pytest.mark.parametrize("axis", [-1, 1])
def test_the_channels_of_the_convolution_before_it(axis: int) -> None:
    inputs = keras.Input((3, 8, 9))
    h = L.Conv2D(4, 3, data_format="channels_first", name="conv")(inputs)
    h = L.Dropout(0.5)(L.ReLU()(h))
    model = keras.Model(inputs, bn(axis=axis)(h))
    found = graph_context(model)
    assert found.convolution == Convolution("conv", 1, 4)
    assert found.axis in ((-1, 3) if axis == -1 else (1,))
    assert ("BNG303" in codes(model)) == (axis == -1)


def test_a_norm_along_time_after_channels_last() -> None:
    inputs = keras.Input((10, 3))
    h = L.Conv1D(4, 3, padding="same", name="conv")(inputs)
    model = keras.Model(inputs, bn(axis=1)(L.Add()([h, L.ReLU()(h)])))
    assert graph_context(model).convolution == Convolution("conv", 2, 3)
    assert "BNG303" in codes(model)


def test_layers_that_move_axes_end_the_search() -> None:
    inputs = keras.Input((3, 8, 8))
    h = L.Conv2D(4, 3, data_format="channels_first")(inputs)
    changed = keras.Model(inputs, bn()(L.Permute((2, 3, 1))(h)))
    dense = keras.Model(inputs, bn()(L.Dense(5)(L.Flatten()(h))))
    for model in (changed, dense):
        assert graph_context(model).convolution is None
        assert "BNG303" not in codes(model)


# ------------------------------------------------------------------------- masks
def masked(*between: Any) -> Any:
    inputs = keras.Input((6, 4))
    h = L.Masking(name="masking")(inputs)
    for layer in between:
        h = layer(h)
    return keras.Model(inputs, bn(momentum=0.5)(h))


def mean_after_a_step(model: Any) -> float:
    """Half of the steps are padding, the others hold 8: one update gives 4, or 2 with padding."""
    x = np.zeros((4, 6, 4), "float32")
    x[:, :3] = 8.0
    model(x, training=True)
    mean = model.get_layer("bn").moving_mean
    return float((keras.ops.convert_to_numpy(mean) if IS_KERAS3 else mean.numpy())[0])


def identity() -> Any:
    return L.Dense(4, use_bias=False, kernel_initializer="identity", name="dense")


@pytest.mark.filterwarnings("ignore:Layer 'drops'")
def test_a_mask_that_is_dropped_on_the_way() -> None:
    model = masked(identity(), L.Conv1D(4, 1, use_bias=False, name="drops"), L.ReLU(name="relu"))
    model.get_layer("drops").set_weights([np.eye(4, dtype="float32")[None]])
    assert graph_context(model).lost_mask == LostMask("masking", "drops")
    assert mean_after_a_step(model) == 2.0
    assert "BNG208" in codes(model)


def test_a_mask_that_arrives() -> None:
    for model in (masked(), masked(identity(), L.ReLU(), L.LSTM(4, return_sequences=True))):
        assert graph_context(model).lost_mask is None
        assert "BNG208" not in codes(model)
    assert mean_after_a_step(masked(identity())) == 4.0


def test_a_mask_that_has_done_its_work() -> None:
    for last in (L.LSTM(4), L.GlobalAveragePooling1D()):
        model = masked(last)
        assert graph_context(model).lost_mask is None
        assert "BNG208" not in codes(model)


@pytest.mark.filterwarnings("ignore:Layer 'drops'")
def test_an_embedding_that_masks() -> None:
    tokens = keras.Input((6,))
    for zero in (True, False):
        h = L.Embedding(9, 4, mask_zero=zero, name="embedding")(tokens)
        model = keras.Model(tokens, bn()(L.Conv1D(4, 1, name="drops")(h)))
        lost = LostMask("embedding", "drops")
        assert graph_context(model).lost_mask == (lost if zero else None)


# -------------------------------------------------------------------------- time
def updates(model: Any, x: Any) -> float:
    """How many updates at momentum 0.5 one step made, of a mean that is 0.5 at every frame."""
    model.compile("sgd", "mse")
    model.fit(x, x, batch_size=len(x), verbose=0)
    layers = model._flatten_layers()
    (norm,) = [layer for layer in layers if isinstance(layer, L.BatchNormalization)]
    mean = norm.moving_mean
    value = float((keras.ops.convert_to_numpy(mean) if IS_KERAS3 else mean.numpy())[0])
    return float(np.log2(1 / (1 - value / 0.5)))


@pytest.mark.parametrize("kind", ["bare", "functional"])
def test_time_distributed(kind: str) -> None:
    inner = bn(momentum=0.5)
    path = "td/bn"
    if kind == "functional":
        frame = keras.Input((4,))
        inner = keras.Model(frame, inner(frame), name="net")
        path = "td/net/bn"
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, L.TimeDistributed(inner, name="td")(inputs))
    steps = graph_context(model, path).time_steps
    assert (steps.path, steps.steps, steps.graph) == ("td", 5, kind == "functional")
    (finding,) = bng.audit(model, select="BNG207").findings
    updated = finding.evidence["updates"][path]
    x = np.zeros((4, 5, 4), "float32")
    x[:2] = 1.0
    expected = {"5 times": 5, "once, over all frames": 1, "twice": 2}[updated]
    assert updates(model, x) == pytest.approx(expected, abs=0.01)
    assert (expected == 5) == IS_KERAS3


# -------------------------------------------------------------------- call sites
def test_how_often_a_norm_is_called() -> None:
    frame = keras.Input((4,))
    tower = keras.Model(frame, bn()(L.Dense(3)(frame)), name="tower")
    a, b = keras.Input((4,)), keras.Input((4,))
    once = L.BatchNormalization(name="once")
    model = keras.Model([a, b], once(L.Add()([tower(a), tower(b), tower(b)])))
    assert graph_context(model, "tower/bn").call_sites == 3
    assert graph_context(model, "once").call_sites == 1
    (finding,) = bng.audit(model, select="BNG209").findings
    assert finding.layers == ("tower/bn",)
    outer = keras.Input((4,))
    model = keras.Model(outer, model([outer, outer]))
    assert graph_context(model, f"{model.layers[-1].name}/tower/bn").call_sites == 3


# ------------------------------------------------------------------------- files
def test_a_file_of_keras_2_with_few_values_per_channel(tmp_path: Any) -> None:
    import h5py

    from keras_bnguard.cli.model_files.loading import load

    inputs = keras.Input((1, 1, 4))
    path = str(tmp_path / "old.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.Model(inputs, bn()(inputs)).save(path)
    for version in ("2.15.0", "3.15.1"):
        with h5py.File(path, "r+") as file:
            file.attrs["keras_version"] = version
        if version.startswith("3") and not IS_KERAS3:
            continue
        if version.startswith("2") and IS_KERAS3 and find_spec("tf_keras"):
            continue  # read as a file of Keras 2, by the Keras 2 that is there
        report = bng.audit(load(path), select="BNG704")
        assert bool(report.findings) == (IS_KERAS3 and version.startswith("2"))


# ------------------------------------------------------------------------ blocks
def test_a_residual_block_that_is_cut_in_half() -> None:
    inputs = h = keras.Input((4,))
    for block in "ab":
        y = L.Dense(4, name=f"block_{block}_one")(h)
        y = L.Dense(4, name=f"block_{block}_two")(L.BatchNormalization()(y))
        h = L.Add(name=f"block_{block}_add")([h, y])
    model = keras.Model(inputs, L.Dense(1, name="head")(h))
    for name in ("block_a_one", "block_a_two"):
        model.get_layer(name).trainable = False
    assert not bng.audit(model, select="BNG107").findings
    model.get_layer("block_b_one").trainable = False
    (finding,) = bng.audit(model, select="BNG107").findings
    assert finding.layers == ("block_b_one",)
    assert "1 of 2 train" in finding.message
    assert "BNG107" not in bng.audit(model).codes


# ---------------------------------------------------------------------- settings
@pytest.mark.parametrize("policy", ["float16", "bfloat16", "mixed_bfloat16"])
def test_statistics_in_sixteen_bits(policy: str) -> None:
    inputs = keras.Input((4,), dtype="float32")
    model = keras.Model(inputs, bn(dtype=policy)(inputs))
    assert ("BNG304" in codes(model)) == (IS_KERAS3 and "mixed" not in policy)


@pytest.mark.skipif(not IS_KERAS3, reason="Keras 2 stores BN in 32 bits under any policy")
def test_a_mean_in_bfloat16_stops_short() -> None:
    ends = {}
    for dtype in ("bfloat16", "float32"):
        layer = L.BatchNormalization(dtype=dtype, momentum=0.9)
        x = keras.ops.ones((4, 2), dtype=dtype)
        for _ in range(80):
            layer(x, training=True)
        ends[dtype] = float(
            keras.ops.convert_to_numpy(keras.ops.cast(layer.moving_mean, "float32"))[0]
        )
    assert ends["float32"] > 0.999
    assert ends["bfloat16"] < 0.99


def test_weight_decay_and_its_exclusions() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, bn()(L.Dense(2)(inputs)))
    for excluded in (False, True):
        optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.05)
        if excluded:
            optimizer.exclude_from_weight_decay(var_names=["gamma", "beta"])
        model.compile(optimizer, "mse")
        assert ("BNG602" in codes(model)) != excluded
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    assert "BNG602" not in codes(model)


@pytest.mark.skipif(not IS_KERAS3, reason="a setting of Keras 3")
def test_gradient_accumulation() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, bn()(inputs))
    for steps in (None, 4):
        model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=steps), "mse")
        assert ("BNG604" in codes(model)) == (steps == 4)


@pytest.mark.skipif(BACKEND == "torch", reason="torch takes one step at a time")
def test_steps_per_execution() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, bn()(inputs))
    assert "BNG703" not in codes(model)
    model.compile("sgd", "mse", steps_per_execution=4)
    assert "BNG703" in codes(model)


def test_renorm_and_values_out_of_range() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, bn(renorm=True, momentum=0.1, epsilon=1e-3)(inputs))
    assert {"BNG302", "BNG305"} <= set(codes(model))


# ----------------------------------------------------------------- models that are right
ZOO = {
    "k2": ["MobileNetV2", "DenseNet121"],
    "tfk": ["EfficientNetB0"],
    "k3-tf": ["MobileNetV3Small"],
    "k3-jax": ["ResNet50", "MobileNetV2"],
    "k3-torch": ["MobileNetV2", "EfficientNetB0", "ResNet50", "DenseNet121", "InceptionV3"],
}


@pytest.mark.parametrize("name", ZOO[STACK])
def test_models_of_keras_applications_are_right(name: str) -> None:
    base = getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(96, 96, 3)
    )
    inputs = keras.Input((96, 96, 3))
    h = L.GlobalAveragePooling2D()(base(inputs))
    model = keras.Model(inputs, L.Dense(2)(L.BatchNormalization()(h)))
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    report = bng.audit(model)
    assert not report.findings, report.findings
    failed = [o for o in report.outcomes if "the rule failed" in o.reason]
    assert not failed, failed
