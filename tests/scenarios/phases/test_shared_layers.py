"""A layer that two sub-models share is selected by every path through which it is reached."""

from __future__ import annotations

from typing import Any, Set

import pytest

import keras_bnguard as bng
from tests.builders import schedules as r
from tests.builders.schedules import L, keras


def two_encoders() -> Any:
    """`a` and `b` share a Dense, a BN and a sub-model; `b` has a layer of its own."""
    dense, norm = L.Dense(6, name="shared"), L.BatchNormalization(name="norm")
    stem = keras.Sequential([keras.Input((6,)), L.Dense(6, name="low")], name="stem")
    first, second = keras.Input((6,)), keras.Input((6,))
    a = keras.Model(first, norm(dense(stem(first))), name="a")
    b = keras.Model(second, L.Dense(6, name="own")(norm(dense(stem(second)))), name="b")
    inputs = keras.Input((6,))
    outputs = L.Dense(1, activation="sigmoid", name="top")(
        L.Add(name="add")([a(inputs), b(inputs)])
    )
    return r.compiled(keras.Model(inputs, outputs, name="both"), "SGD", 0.1)


def updated(model: Any, train: Any) -> Set[str]:
    before = {id(layer): layer.get_weights() for layer in r.leaves(model)}
    r.fit(model, 1, [r.scheduler([bng.Phase("only", train=train, learning_rate=0.1)])])
    return {
        layer.name
        for layer in r.leaves(model)
        if not r.same(before[id(layer)], layer.get_weights())
    }


SHARED = {"shared", "norm", "low"}


@pytest.mark.parametrize(
    ("train", "names"),
    [
        ("a", SHARED),
        ("a/*", SHARED),
        ("b", SHARED | {"own"}),
        ("b/*", SHARED | {"own"}),
        ("both/b/*", SHARED | {"own"}),
        ("b/shared", {"shared"}),
        ("b/stem", {"low"}),
        ("b/stem/low", {"low"}),
        ("re:^b/norm$", {"norm"}),
        (["b/norm", "top"], {"norm", "top"}),
        (lambda layer: layer.name == "b", SHARED | {"own"}),
        ("top", {"top"}),
        ("*", SHARED | {"own", "top"}),
    ],
)
def test_what_is_selected_by_any_path_trains(train, names):
    assert updated(two_encoders(), train) == names


@pytest.mark.parametrize("layers", ["a", "b", "b/norm", "re:^b/"])
def test_forced_inference_is_selected_by_any_path(layers):
    model = two_encoders()
    norm = model.get_layer("a").get_layer("norm")
    before = r.statistics(norm)
    with bng.force_inference(model, layers=layers):
        r.fit(model, 1)
    assert before == r.statistics(norm)


@pytest.mark.parametrize(("ignored", "found"), [("a/*", False), ("b/*", False), ("c/*", True)])
def test_a_finding_is_ignored_under_any_path(ignored, found):
    model = two_encoders()
    model.get_layer("a").get_layer("norm").momentum = 0.0
    report = bng.audit(model, ignore={"BNG302": [ignored]})
    assert any(finding.code == "BNG302" for finding in report.findings) is found
