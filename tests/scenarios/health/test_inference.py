"""Correct inference beside BNG202: no BN uses batch statistics there, so nothing is reported."""

from __future__ import annotations

from typing import Any, Callable, Dict

import pytest

from keras_bnguard.backends.patches.attribute_patches import open_patches
from tests.builders.harness import fit
from tests.builders.models import transfer
from tests.builders.pipelines import L, NotPassing, Passing, compiled, rows
from tests.scenarios.faults.test_inference_by_batch import Unit, graph
from tests.stack import IS_KERAS3, keras


class MonteCarloDropout(L.Layer):
    """Only its Dropout always gets `training=True`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.drop, self.bn = L.Dropout(0.3), L.BatchNormalization()

    def call(self, x: Any, training: Any = None) -> Any:
        return self.bn(self.drop(x, training=True), training=training)


class AlwaysInference(L.BatchNormalization):
    """Never uses the batch, whatever it gets."""

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        return super().call(inputs, training=False)


class AroundIt(L.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bn = AlwaysInference()

    def call(self, x: Any, training: Any = None) -> Any:
        return self.bn(x, training=True)


def frozen_inside() -> Any:
    unit = Unit(8)
    model = graph(unit)
    unit.bn.trainable = False
    return compiled(model)


def subclassed(cls: Any) -> Any:
    model = cls()
    model(rows(4)[0])
    return compiled(model)


PROGRAMS: Dict[str, Callable[[], Any]] = {
    "monte_carlo_dropout": lambda: graph(MonteCarloDropout()),
    "frozen_inside": frozen_inside,
    "always_inference": lambda: graph(AroundIt()),
    "passing": lambda: subclassed(Passing),
    "not_passing": lambda: subclassed(NotPassing),
    "transfer": lambda: compiled(transfer()),
}


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_correct_inference_is_silent(name: str) -> None:
    x, y = rows(32)
    model = PROGRAMS[name]()
    if name == "transfer":
        x = x[:, : model.input_shape[-1]]
    run = fit(model, x, y, validation_data=(x, y), epochs=2)
    assert "BNG202" not in run.codes


def test_a_pass_that_raises_leaves_nothing_behind() -> None:
    x, y = rows(32)
    model = graph(Unit(8))
    call = keras.layers.Layer.__call__
    fit(model, x, y, validation_data=(x[:, :3], y), fails=True)
    assert keras.layers.Layer.__call__ is call
    assert open_patches() == 0


@pytest.mark.skipif(not IS_KERAS3, reason="Keras 2 obeys the True of a graph, which is reported")
def test_a_true_of_a_graph_that_keras_overrides_is_silent() -> None:
    x, y = rows(32)
    inputs = keras.Input((8,))
    h = L.BatchNormalization()(L.Dense(4)(inputs), training=True)
    model = compiled(keras.Model(inputs, L.Dense(1, activation="sigmoid")(h)))
    assert "BNG202" not in fit(model, x, y, validation_data=(x, y)).codes
