"""BNG202 where BN use batch statistics in inference, and its repaired twin."""

from __future__ import annotations

from typing import Any

import pytest

from keras_bnguard.auto import AutoWarnings
from keras_bnguard.settings import Settings
from tests.builders.harness import fit
from tests.builders.pipelines import L, compiled, rows
from tests.stack import keras


class Unit(L.Layer):
    """Dense and BN, which always gets `training=True`."""

    always = True

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = L.Dense(n, use_bias=False)
        self.bn = L.BatchNormalization(momentum=0.9, name="unit_bn")

    def call(self, t: Any, training: Any = None) -> Any:
        how = True if self.always else training
        return keras.activations.relu(self.bn(self.dense(t), training=how))


class Repaired(Unit):
    always = False


def graph(*units: Any) -> Any:
    inputs = keras.Input((8,))
    x = inputs
    for unit in units:
        x = unit(x)
    return compiled(keras.Model(inputs, L.Dense(1, activation="sigmoid")(x)))


def validated(model: Any, **kwargs: Any) -> Any:
    x, y = rows(64)
    return fit(model, x, y, validation_data=(x[:32], y[:32]), **kwargs)


def test_a_layer_that_always_trains_its_bn_is_found_in_validation() -> None:
    run = validated(graph(Unit(8, name="a"), Unit(8, name="b")), epochs=2)
    assert run.codes.count("BNG202") == 1
    assert run.layers("BNG202") == ["a/unit_bn", "b/unit_bn"]
    found = run.finding("BNG202")
    assert "in validation" in found.message
    assert "call of Unit" in found.message
    assert __file__ in found.source


def test_the_repaired_layer_is_silent() -> None:
    assert "BNG202" not in validated(graph(Repaired(8, name="a"))).codes


def test_without_validation_nothing_is_claimed() -> None:
    x, y = rows(64)
    assert "BNG202" not in fit(graph(Unit(8)), x, y).codes


@pytest.mark.parametrize("name", ["evaluate", "predict"])
def test_a_pass_outside_fit_is_found_once_where_warnings_are_automatic(name: str) -> None:
    watch = AutoWarnings()
    watch.enable(Settings(), by_warning=False)
    model, repaired = graph(Unit(8, name="a")), graph(Repaired(8, name="a"))
    x, y = rows(32)
    try:
        for _ in range(2):
            for each in (model, repaired):
                given = (x, y) if name == "evaluate" else (x,)
                getattr(each, name)(*given, verbose=0)
    finally:
        watch.disable()
    assert not watch.faults, watch.faults
    (report,) = watch.reports()
    assert (report.codes, report.notes) == (("BNG202",), (name,))
    assert f"in {name}" in report.findings[0].message


def test_what_validation_showed_is_not_reported_again_by_predict() -> None:
    watch = AutoWarnings()
    watch.enable(Settings(), by_warning=False)
    model = graph(Unit(8, name="a"))
    x, y = rows(32)
    try:
        model.fit(x, y, validation_data=(x, y), verbose=0)
        model.evaluate(x, y, verbose=0)
        model.predict(x, verbose=0)
    finally:
        watch.disable()
    assert not watch.faults, watch.faults
    (report,) = watch.reports()
    assert "BNG202" in report.codes


class StepInTrainingMode(keras.Model):
    """Its `test_step` calls the model as `train_step` does."""

    mode = True

    def test_step(self, *args: Any) -> Any:
        data = args[-1]
        if len(args) == 2:  # JAX
            trainable, other, metrics = args[0]
            y_pred, other = self.stateless_call(trainable, other, data[0], training=self.mode)
            return {"out": y_pred.mean()}, (trainable, other, metrics)
        return {"out": keras_mean(self(data[0], training=self.mode))}


def keras_mean(x: Any) -> Any:
    if hasattr(keras, "ops"):
        return keras.ops.mean(x)
    import tensorflow as tf

    return tf.reduce_mean(x)


@pytest.mark.parametrize("mode", [True, False])
def test_a_test_step_in_training_mode_is_found(mode: bool) -> None:
    inputs = keras.Input((8,))
    x = L.BatchNormalization(name="bn")(L.Dense(4)(inputs))
    model = StepInTrainingMode(inputs, L.Dense(1, activation="sigmoid")(x))
    model.mode = mode
    run = validated(compiled(model))
    assert run.layers("BNG202") == (["bn"] if mode else [])
    if mode:
        assert "The step calls the model" in run.finding("BNG202").message
