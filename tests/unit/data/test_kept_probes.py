"""Probes kept with a model: compiled once, and made again when a trace would differ."""

from __future__ import annotations

import copy
import gc
import weakref

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.backends.patches.attribute_patches import unwrap_all, wrap_all
from keras_bnguard.data.kept_probes import MAX_KEPT, KeptProbes, probe_of
from keras_bnguard.model.kept import find_kept
from keras_bnguard.model.snapshot import take_snapshot
from tests.stack import BACKEND, IS_KERAS3, keras

X = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
Y = X[:, :1]
TRACES = []


class Scaled(keras.layers.Layer):
    """Multiplies by a plain attribute, and notes every time its Python code runs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._factor = 1.0
        self.steps = [1, 1]
        self.function = abs

    def call(self, x):
        TRACES.append(self.name)
        return x * self._factor * sum(self.steps)


def make_model():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, name="dense")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = Scaled(name="scaled")(x)
    model = keras.Model(inputs, keras.layers.Dense(1, name="head")(x))
    model.compile("sgd", "mse")
    return model


def freeze(model):
    model.trainable = False
    return model


USES = {
    "recalibrate": lambda model: bng.recalibrate(model, X, batch_size=8),
    "sequential": lambda model: bng.recalibrate(model, X, batch_size=8, mode="sequential"),
    "mode_gap": lambda model: bng.mode_gap(model, (X, Y), batch_size=8),
    "features": lambda model: bng.precompute_features(freeze(model), X, batch_size=8),
    "guard": lambda model: model.fit(
        X, Y, verbose=0, callbacks=[bng.BNGuard(data=(X, Y), on_finding="log", select="BNG5")]
    ),
}


@pytest.mark.parametrize("use", sorted(USES))
def test_the_second_call_makes_no_probe(use, monkeypatch):
    made = []
    model = make_model()
    values = type(take_snapshot(model).backend.values)
    compiled_probe = values.compiled_probe

    def counted(*args, **kwargs):
        made.append(args)
        return compiled_probe(*args, **kwargs)

    monkeypatch.setattr(values, "compiled_probe", counted)
    USES[use](model)
    assert made
    made.clear()
    USES[use](model)
    assert made == []


@pytest.mark.skipif(BACKEND == "torch", reason="torch compiles nothing")
@pytest.mark.parametrize("use", ["recalibrate", "features", "mode_gap"])
def test_the_second_call_traces_nothing(use):
    model = make_model()
    USES[use](model)
    TRACES.clear()
    USES[use](model)
    assert TRACES == []


@pytest.mark.skipif(BACKEND == "torch", reason="torch compiles nothing")
def test_features_are_compiled_for_one_shape():
    model = freeze(make_model())
    TRACES.clear()
    bng.precompute_features(model, X, batch_size=8, inference_only=True)
    assert TRACES == ["scaled"]


def test_a_program_contains_no_weights():
    model = make_model()
    USES["features"](model)
    model.set_weights([weight + 0.5 for weight in model.get_weights()])
    found = USES["features"](model).x
    np.testing.assert_allclose(found, model.predict(X, verbose=0), rtol=1e-4, atol=1e-5)


CHANGES = {
    "plain attribute": lambda layer: setattr(layer, "_factor", 3.0),
    "list of plain values": lambda layer: setattr(layer, "steps", [2, 5]),
    "call": lambda layer: setattr(layer, "call", lambda x: x - 1.0),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_changed_layer_is_traced_again(change):
    model = make_model()
    before = USES["features"](model).x
    CHANGES[change](model.get_layer("scaled"))
    found = USES["features"](model).x
    bn = keras.Model(model.inputs, model.get_layer("bn").output).predict(X, verbose=0)
    kernel, bias = model.get_layer("head").get_weights()
    layer = model.get_layer("scaled")
    scaled = bn - 1.0 if change == "call" else bn * layer._factor * sum(layer.steps)
    np.testing.assert_allclose(found, scaled @ kernel + bias, rtol=1e-4, atol=1e-5)
    assert np.max(np.abs(found - before)) > 1e-3


STRUCTURES = {
    "flag": lambda model: setattr(model.get_layer("dense"), "trainable", False),
    "epsilon": lambda model: setattr(model.get_layer("bn"), "epsilon", 0.25),
    "function": lambda model: setattr(model.get_layer("scaled"), "function", sum),
    "activation": lambda model: setattr(model.get_layer("head"), "activation", abs),
    "user's attribute": lambda model: setattr(model, "temperature", 2.0),
}
if IS_KERAS3:
    STRUCTURES["dtype policy"] = lambda model: setattr(
        model.get_layer("dense"), "dtype_policy", keras.DTypePolicy("mixed_bfloat16")
    )


@pytest.mark.parametrize("change", sorted(STRUCTURES))
def test_another_structure_has_another_probe(change):
    model = make_model()

    def probe():
        snapshot = take_snapshot(model)
        return probe_of(snapshot, snapshot.handles)

    first = probe()
    assert probe() is first
    model.predict(X, verbose=0)
    model.fit(X, Y, verbose=0)
    assert probe() is first
    STRUCTURES[change](model)
    assert probe() is not first


def test_wrapped_calls_are_not_kept():
    model = make_model()
    snapshot = take_snapshot(model)
    kept = probe_of(snapshot, snapshot.handles)
    targets = [(model.get_layer("scaled"), "call", lambda call: call)]
    wrap_all(targets, who=model)
    try:
        assert probe_of(snapshot, snapshot.handles) is not kept
    finally:
        unwrap_all(targets, who=model)
    assert probe_of(snapshot, snapshot.handles) is kept


def test_statistics_are_those_of_a_new_probe_bit_for_bit():
    model = make_model()
    first = bng.recalibrate(model, X, batch_size=8)
    first.undo()
    second = bng.recalibrate(model, X, batch_size=8)
    for one, other in ((first.after["bn"], second.after["bn"]),):
        assert one.mean.tobytes() == other.mean.tobytes()
        assert one.variance.tobytes() == other.variance.tobytes()


def test_few_probes_are_kept():
    model = make_model()
    snapshot = take_snapshot(model)
    kept = KeptProbes()
    handle = snapshot.handles[0]
    for number in range(MAX_KEPT + 3):
        kept.find(snapshot, [handle] * number, probe_of.__defaults__[0])
    assert len(kept._probes) == MAX_KEPT


def test_a_model_with_kept_probes_is_freed():
    model = make_model()
    USES["recalibrate"](model)
    USES["features"](model)
    assert find_kept(model, KeptProbes) is not None
    gone = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert gone() is None


def test_a_copy_starts_without():
    model = make_model()
    USES["recalibrate"](model)
    with keras.utils.custom_object_scope({"Scaled": Scaled}):
        copied = copy.deepcopy(model)
    assert find_kept(copied, KeptProbes) is None
    found = bng.recalibrate(copied, X, batch_size=8)
    assert found.paths == ("bn",)
