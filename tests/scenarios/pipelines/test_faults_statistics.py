"""BNG401 to 406, 607 and 702: moving statistics and what cannot be seen, in real runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.records import TRAIN_START
from tests.builders.harness import IS_KERAS3, STACK, clean, fit, found
from tests.builders.pipelines import (
    FEATURES,
    L,
    backbone,
    compiled,
    image_backbone,
    images,
    nested,
    norms,
    plain,
    pretend_trained,
    recompiled,
    rows,
    stacked,
)
from tests.builders.values import as_array, at
from tests.stack import keras


def still(base: Any) -> Any:
    base.trainable = False
    return base


# ------------------------------------------------------------------------ BNG401
@pytest.mark.parametrize("style", ["nested", "flat"])
def test_one_norm_that_was_not_loaded(style: str) -> None:
    base = backbone()
    base.get_layer("bn2").moving_mean.assign(np.zeros(8, "float32"))
    base.get_layer("bn2").moving_variance.assign(np.ones(8, "float32"))
    model = nested(still(base)) if style == "nested" else stacked(still(base))
    path = "backbone/bn2" if style == "nested" else "bn2"
    found(fit(compiled(model), *rows()), {"BNG401": [path]})


def test_one_live_norm_that_was_not_loaded() -> None:
    base = backbone()
    base.get_layer("bn1").moving_mean.assign(np.zeros(8, "float32"))
    base.get_layer("bn1").moving_variance.assign(np.ones(8, "float32"))
    base.get_layer("bn1").gamma.assign(np.linspace(0.5, 1.5, 8).astype("float32"))
    found(fit(compiled(nested(base, head_bn=True)), *rows()), {"BNG401": ["backbone/bn1"]})


def test_a_frozen_backbone_without_weights() -> None:
    base = image_backbone(trained=False)
    run = fit(compiled(nested(still(base), training=False)), *images(16))
    found(run, {"BNG401": ["backbone/conv1_bn", "backbone/conv2_bn"]})


# ------------------------------------------------------------------------ BNG402
def test_values_that_are_not_finite() -> None:
    x, y = rows()
    x[5, 2] = np.nan
    model = compiled(nested(backbone(), head_bn=True), loss="mse")
    run = fit(model, x, y)
    paths = ["backbone/bn1", "backbone/bn2", "head_bn"]
    found(run, {"BNG402": paths})
    # It is reported at the start of the next run.
    again = fit(model, *rows())
    assert again.finding("BNG402").moment == TRAIN_START


def test_one_infinite_value_in_a_loaded_model() -> None:
    base = backbone()
    variance = as_array(base.get_layer("bn2").moving_variance).copy()
    variance[3] = np.inf
    base.get_layer("bn2").moving_variance.assign(variance)
    found(fit(compiled(nested(still(base)), loss="mse"), *rows()), {"BNG402": ["backbone/bn2"]})


# ------------------------------------------------------------------------ BNG403
@pytest.mark.parametrize("value", [-0.01, 1e-9])
def test_a_variance_that_is_negative_or_dead(value: float) -> None:
    base = backbone()
    variance = as_array(base.get_layer("bn1").moving_variance).copy()
    variance[0] = value
    base.get_layer("bn1").moving_variance.assign(variance)
    mean = as_array(base.get_layer("bn1").moving_mean).copy()
    mean[0] = 0.7
    base.get_layer("bn1").moving_mean.assign(mean)
    found(fit(compiled(nested(still(base)), loss="mse"), *rows()), {"BNG403": ["backbone/bn1"]})


def test_a_constant_column_kills_its_channel_and_pruned_channels_do_not_count() -> None:
    inputs = keras.Input((FEATURES,))
    h = L.BatchNormalization(name="bn", momentum=0.5)(inputs)
    model = compiled(keras.Model(inputs, L.Dense(1, activation="sigmoid")(h)))
    x, y = rows(128)
    x[:, 0] = 5.0
    run = fit(model, x, y, batch_size=8, epochs=1)
    assert run.codes in ((), ("BNG403",))
    found(fit(model, x, y, batch_size=8, epochs=1), {"BNG403": ["bn"]})
    gamma = as_array(model.get_layer("bn").gamma).copy()
    gamma[0] = 0
    model.get_layer("bn").gamma.assign(gamma)
    model.get_layer("bn").trainable = False
    clean(fit(recompiled(model), *rows()))


# ------------------------------------------------------------------- BNG404 / 405
class Restores(keras.callbacks.Callback):
    """Puts weights of the start back at every epoch's end."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.weights = self.model.get_weights()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.set_weights(self.weights)


def test_a_callback_that_restores_the_weights() -> None:
    run = fit(compiled(plain()), *rows(), before=[Restores()], epochs=2)
    found(run, {"BNG405": ["bn"]})


def test_a_callback_that_assigns_frozen_statistics_is_no_fault() -> None:
    class Assigns(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            at(self.model, "backbone/bn1").moving_mean.assign(np.full(8, 0.5, "float32"))

    clean(fit(compiled(nested(still(backbone()))), *rows(), before=[Assigns()], epochs=2))


# ------------------------------------------------------------------------ BNG406
def test_pretrained_statistics_that_run_away() -> None:
    x, y = rows(96)
    model = nested(backbone(momentum_of := "backbone"), head_bn=True)
    for norm in norms(model.get_layer(momentum_of)):
        norm.momentum = 0.5
    run = fit(compiled(model), x * 30 + 20, y, batch_size=8)
    assert run.codes == ("BNG406",), run.messages
    assert "backbone/bn1" in run.layers("BNG406")
    assert "head_bn" not in run.layers("BNG406")


# ------------------------------------------------------------------------ BNG607
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("hook", ["on_epoch_end", "on_epoch_begin", "on_train_batch_end"])
def test_a_callback_that_compiles(hook: str, place: str) -> None:
    class Compiles(keras.callbacks.Callback):
        done = False

    def compile_once(self: Any, index: int, logs: Any = None) -> None:
        if not self.done and (hook != "on_epoch_begin" or index == 1):
            self.done = True
            compiled(self.model)

    setattr(Compiles, hook, compile_once)
    run = fit(compiled(plain()), *rows(), epochs=2, fails=True, **{place: [Compiles()]})
    assert run.error is not None
    assert run.codes == ("BNG607",), run.messages


def test_compiling_after_the_end_is_no_fault() -> None:
    class Compiles(keras.callbacks.Callback):
        def on_train_end(self, logs: Any = None) -> None:
            compiled(self.model)

    for place in ("before", "after"):
        clean(fit(compiled(plain()), *rows(), **{place: [Compiles()]}))


def test_compiling_another_model_is_no_fault() -> None:
    class Compiles(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            other = compiled(plain("other"))
            other.trainable = False
            compiled(other)

    clean(fit(compiled(plain()), *rows(), after=[Compiles()], epochs=2))


# ------------------------------------------------------------------------ BNG702
@pytest.mark.skipif(STACK != "k3-tf", reason="TFSMLayer needs Keras 3 on TensorFlow")
def test_a_saved_model_as_a_layer(tmp_path: Any) -> None:
    base = backbone()
    base.export(str(tmp_path / "saved"), verbose=False)
    inputs = keras.Input((FEATURES,))
    h = L.TFSMLayer(str(tmp_path / "saved"), call_endpoint="serve", name="saved")(inputs)
    model = keras.Model(inputs, L.Dense(1, activation="sigmoid")(h))
    run = fit(compiled(model, optimizer="SGD"), *rows())
    assert run.codes == ("BNG702",), run.messages
    assert sorted(p.split("/")[-1] for p in run.layers("BNG702")) == ["bn1", "bn2"]


@pytest.mark.slow
def test_an_application_frozen_without_the_weights_of_one_norm() -> None:
    base = keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(32, 32, 3), alpha=0.35
    )
    first = next(iter(norms(base)))
    pretend_trained(base)
    first.moving_mean.assign(np.zeros(first.moving_mean.shape, "float32"))
    first.moving_variance.assign(np.ones(first.moving_mean.shape, "float32"))
    report = bng.audit(compiled(nested(still(base))))
    assert report.codes == ("BNG401",)
    assert report.findings[0].layers == (f"{base.name}/{first.name}",)


assert IS_KERAS3 or STACK in ("k2", "tfk")
