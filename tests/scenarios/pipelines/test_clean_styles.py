"""Correct models of every style train in silence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders import models
from tests.builders.harness import BACKEND, IS_KERAS3, STACK, clean, fit, found
from tests.builders.norm_subclasses import Renamed, Starred, Yolo, YoloTF, with_norm
from tests.builders.pipelines import (
    FEATURES,
    AroundBackbone,
    L,
    NotPassing,
    Passing,
    StillBackbone,
    backbone,
    compiled,
    digits,
    image_backbone,
    images,
    nested,
    norms,
    plain,
    pretend_trained,
    rows,
    sequential,
    sequential_around,
    stacked,
    without_norm,
)
from tests.builders.train_steps import OwnStepModel, OwnStepSubclass, own_step
from tests.stack import keras


def frozen(base: Any) -> Any:
    base.trainable = False
    return base


BUILDERS = {
    "functional": plain,
    "no gamma, no beta": lambda: plain(scale=False, center=False),
    "no gamma": lambda: plain(scale=False),
    "momentum 1.0": lambda: plain(momentum=1.0),
    "momentum 0": lambda: plain(momentum=0.0),
    "frozen backbone, nested": lambda: nested(frozen(backbone()), head_bn=True),
    "frozen backbone, training=False": lambda: nested(frozen(backbone()), training=False),
    "frozen backbone, flat": lambda: stacked(frozen(backbone())),
    "fresh backbone": lambda: nested(backbone(trained=False), head_bn=True),
    "trained backbone, all trainable": lambda: nested(backbone(), head_bn=True),
    "sequential": sequential,
    "sequential, unbuilt": lambda: sequential(built=False),
    "sequential around a model": lambda: sequential_around(frozen(backbone())),
    "subclassed": Passing,
    "subclassed around frozen": lambda: AroundBackbone(frozen(backbone())),
    "subclassed around trainable": lambda: AroundBackbone(backbone()),
    "subclassed, base called with False": lambda: StillBackbone(backbone()),
    "subclassed, base frozen and called with False": lambda: StillBackbone(frozen(backbone())),
    "own step": lambda: own_step(OwnStepModel),
    "own step, subclassed": OwnStepSubclass,
    "BN subclass, trainable and training": lambda: with_norm(Yolo(name="bn")),
    "BN subclass, renamed argument": lambda: with_norm(Renamed(name="bn")),
    "no BN": without_norm,
}


@pytest.mark.parametrize("style", BUILDERS)
def test_a_correct_model_trains_in_silence(style: str) -> None:
    model = compiled(BUILDERS[style]())
    # A momentum of 0 or 1 is named by BNG302, and by no rule about what statistics do.
    guard = bng.BNGuard(ignore=["BNG302"] if style.startswith("momentum") else None)
    clean(fit(model, *rows(), guard=guard, epochs=2))


def test_a_subclass_that_leaves_training_to_keras_trains_in_silence() -> None:
    run = fit(compiled(NotPassing()), *rows())
    if STACK == "k3-jax":
        # JAX's step enters `call` without passing `training` on: BN really runs in inference mode.
        found(run, {"BNG206": ["bn"]})
    else:
        clean(run)


def test_a_norm_with_star_arguments_is_judged_by_what_it_does() -> None:
    run = fit(compiled(with_norm(Starred(name="bn"))), *rows())
    before = "BNG205" in run.codes
    changed = bool(np.any(np.array(norms(run.guard.model)[0].moving_mean) != 0))
    assert before != changed, (run.codes, changed)


@pytest.mark.skipif(IS_KERAS3, reason="Keras 3 takes no tensor as a flag")
def test_the_yolo_norm_of_the_tensorflow_ports_trains_in_silence() -> None:
    clean(fit(compiled(with_norm(YoloTF(name="bn"))), *rows()))


def test_digits_with_constant_border_pixels() -> None:
    x, y = digits()
    inputs = keras.Input((64,))
    h = L.BatchNormalization(name="bn_in")(inputs)
    h = L.Dense(16, activation="relu")(h)
    h = L.BatchNormalization(name="bn_hidden")(h)
    model = keras.Model(inputs, L.Dense(10, activation="softmax")(h))
    compiled(model, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    clean(fit(model, x, y, epochs=2))
    clean(fit(model, x, y, epochs=2))


def test_digits_many_epochs_with_fast_momentum() -> None:
    x, y = digits(32)
    inputs = keras.Input((64,))
    h = L.BatchNormalization(name="bn_in", momentum=0.5)(inputs)
    model = keras.Model(inputs, L.Dense(10, activation="softmax")(h))
    compiled(model, loss="sparse_categorical_crossentropy")
    clean(fit(model, x, y, epochs=15, batch_size=8))


def test_a_net_whose_relus_are_dead() -> None:
    inputs = keras.Input((FEATURES,))
    h = L.Dense(8, bias_initializer=keras.initializers.Constant(-50.0), activation="relu")(inputs)
    h = L.BatchNormalization(name="bn_after_dead", momentum=0.5)(h)
    h = L.Dense(8, activation="relu")(h)
    h = L.BatchNormalization(name="bn_half", momentum=0.5)(h)
    model = compiled(keras.Model(inputs, L.Dense(1, activation="sigmoid")(h)))
    clean(fit(model, *rows(), epochs=10, batch_size=8))


def test_images_with_a_frozen_and_with_a_fresh_backbone() -> None:
    clean(fit(compiled(nested(frozen(image_backbone()), training=False)), *images()))
    clean(fit(compiled(stacked(image_backbone(name="fresh", trained=False))), *images()))


def test_siamese_towers_that_share_a_norm() -> None:
    tower = backbone("tower", trained=False)
    a, b = keras.Input((FEATURES,), name="a"), keras.Input((FEATURES,), name="b")
    both = L.Subtract()([tower(a), tower(b)])
    model = compiled(keras.Model([a, b], L.Dense(1, activation="sigmoid")(both)))
    x, y = rows()
    clean(fit(model, [x, x[::-1].copy()], y))


def test_one_frozen_and_shared_tower() -> None:
    tower = frozen(backbone("tower"))
    a, b = keras.Input((FEATURES,), name="a"), keras.Input((FEATURES,), name="b")
    both = L.Concatenate()([tower(a), tower(b, training=False)])
    model = compiled(keras.Model([a, b], L.Dense(1, activation="sigmoid")(both)))
    x, y = rows()
    clean(fit(model, [x, x[::-1].copy()], y))


def test_time_distributed_norm_and_model() -> None:
    inputs = keras.Input((3, FEATURES))
    h = L.TimeDistributed(L.Dense(4), name="td_dense")(inputs)
    h = L.TimeDistributed(L.BatchNormalization(name="bn"), name="td_bn")(h)
    frame = models.backbone("frame", width=4, units=(8, 8), dropout=0.0)
    h = L.TimeDistributed(frame, name="td_model")(h)
    h = L.GlobalAveragePooling1D()(h)
    model = compiled(keras.Model(inputs, L.Dense(1, activation="sigmoid")(h)))
    x = np.random.default_rng(0).normal(size=(32, 3, FEATURES)).astype("float32")
    clean(fit(model, x, (x[:, 0, :1] > 0).astype("float32")))


def test_time_distributed_around_a_frozen_backbone() -> None:
    inputs = keras.Input((3, FEATURES))
    h = L.TimeDistributed(frozen(backbone("frame")), name="td_model")(inputs)
    h = L.GlobalAveragePooling1D()(h)
    model = compiled(keras.Model(inputs, L.Dense(1, activation="sigmoid")(h)))
    x = np.random.default_rng(0).normal(size=(32, 3, FEATURES)).astype("float32")
    clean(fit(model, x, (x[:, 0, :1] > 0).astype("float32")))


def test_bidirectional_masking_and_norm() -> None:
    inputs = keras.Input((5, 4))
    h = L.Masking()(inputs)
    h = L.BatchNormalization(name="bn_masked")(h)
    h = L.Bidirectional(L.GRU(3, return_sequences=True), name="both_ways")(h)
    h = L.BatchNormalization(name="bn_after")(h)
    h = L.GlobalAveragePooling1D()(h)
    model = compiled(keras.Model(inputs, L.Dense(1, activation="sigmoid")(h)))
    x = np.random.default_rng(0).normal(size=(16, 5, 4)).astype("float32")
    x[:, 3:] = 0
    clean(fit(model, x, np.ones((16, 1), "float32"), batch_size=8))


def test_embedding_with_mask_zero() -> None:
    inputs = keras.Input((6,), dtype="int32")
    h = L.Embedding(10, 4, mask_zero=True)(inputs)
    h = L.BatchNormalization(name="bn")(h)
    h = L.GlobalAveragePooling1D()(h)
    model = compiled(keras.Model(inputs, L.Dense(1, activation="sigmoid")(h)))
    x = np.random.default_rng(0).integers(0, 10, (32, 6)).astype("int32")
    x[:, 0] = 1
    clean(fit(model, x, np.ones((32, 1), "float32")))


def test_dict_of_inputs_and_several_outputs() -> None:
    a, b = keras.Input((FEATURES,), name="a"), keras.Input((4,), name="b")
    h = L.Concatenate()([backbone("left", trained=False)(a), L.BatchNormalization(name="bn_b")(b)])
    one = L.Dense(1, activation="sigmoid", name="one")(h)
    two = L.Dense(2, name="two")(L.BatchNormalization(name="bn_two")(h))
    model = keras.Model({"a": a, "b": b}, {"one": one, "two": two})
    model.compile("adam", loss={"one": "binary_crossentropy", "two": "mse"})
    x, y = rows()
    inputs = {"a": x, "b": x[:, :4].copy()}
    clean(fit(model, inputs, {"one": y, "two": np.repeat(y, 2, axis=1)}))


def test_autoencoder_whose_encoder_is_used_again_under_a_classifier() -> None:
    inputs = keras.Input((FEATURES,))
    h = L.Dense(6, name="enc_dense")(inputs)
    h = L.BatchNormalization(name="enc_bn")(h)
    code = L.Dense(3, name="code")(h)
    decoded = L.Dense(FEATURES)(L.BatchNormalization(name="dec_bn")(L.Dense(6)(code)))
    x, y = rows()
    auto = compiled(keras.Model(inputs, decoded, name="auto"), loss="mse")
    clean(fit(auto, x, x))
    encoder = keras.Model(inputs, code, name="encoder")
    for layer in encoder.layers:
        layer.trainable = False
    classes = compiled(keras.Model(inputs, L.Dense(1, activation="sigmoid")(encoder.output)))
    clean(fit(classes, x, y))
    nested_classes = compiled(nested(encoder))
    clean(fit(nested_classes, x, y))


@pytest.mark.parametrize("setting", ["renorm", "synchronized"])
def test_settings_of_the_norm(setting: str) -> None:
    if setting == "synchronized" and STACK == "k2":
        norm = L.experimental.SyncBatchNormalization(name="bn")
    elif setting == "synchronized" and BACKEND != "tensorflow":
        pytest.skip("only TensorFlow has a synchronized norm")
    elif setting == "synchronized":
        norm = L.BatchNormalization(name="bn", synchronized=True)
    else:
        norm = L.BatchNormalization(name="bn", renorm=True)
    clean(fit(compiled(with_norm(norm)), *rows()))
    norm.trainable = False
    clean(fit(compiled(with_norm(norm)), *rows()))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy: str) -> None:
    keras.mixed_precision.set_global_policy(policy)
    try:
        trainable = nested(backbone(trained=False), head_bn=True)
        still = nested(frozen(backbone("still")), head_bn=True)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    optimizer = keras.optimizers.Adam(1e-3)
    if policy == "mixed_float16":
        scaled = getattr(keras.optimizers, "LossScaleOptimizer", None)
        optimizer = (scaled or keras.mixed_precision.LossScaleOptimizer)(optimizer)
    trainable.compile(optimizer, "mse")
    clean(fit(trainable, *rows()))
    clean(fit(compiled(still), *rows()))


@pytest.mark.slow
def test_an_application_frozen_with_trained_statistics() -> None:
    base = keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(32, 32, 3), alpha=0.35
    )
    pretend_trained(base)
    model = compiled(nested(frozen(base), training=False))
    clean(fit(model, *images(8, 32), batch_size=4))
