"""BN inside recurrent layers: in a cell, in both directions, over time steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders import schedules as r
from tests.builders.schedules import L, keras
from tests.builders.values import statistics


@keras.utils.register_keras_serializable("tests")
class NormalizedCell(L.Layer):
    """A cell with BN on its input."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.state_size = units
        self.output_size = units
        self.kernel = L.Dense(units, name="kernel")
        self.norm = L.BatchNormalization(name="cell_bn")

    def build(self, shape: Any) -> None:
        self.kernel.build((None, shape[-1]))
        self.norm.build((None, self.units))
        self.built = True

    def call(self, x: Any, states: Any, training: Any = None) -> Any:
        out = self.norm(self.kernel(x), training=training) + 0.5 * states[0]
        return out, [out]

    def get_config(self) -> Any:
        return {**super().get_config(), "units": self.units}


RECURRENT = {
    "cell": lambda: L.RNN(NormalizedCell(4), unroll=True, name="rnn"),
    "both directions": lambda: L.Bidirectional(L.RNN(NormalizedCell(4), unroll=True), name="rnn"),
    "over time": lambda: keras.Sequential(
        [L.TimeDistributed(L.BatchNormalization(name="cell_bn")), L.GlobalAveragePooling1D()],
        name="rnn",
    ),
}


def model_with(kind: str) -> Any:
    inputs = keras.Input((5, 3))
    x = RECURRENT[kind]()(inputs)
    model = keras.Model(inputs, L.Dense(1, name="head")(x))
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.2, 1.0, w.shape) for w in model.get_weights()])
    return model


def train(model: Any, callbacks: Any = (), epochs: int = 1) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(2.0, 3.0, (24, 5, 3)).astype("float32")
    if getattr(model, "optimizer", None) is None:
        r.compiled(model, loss="mse")
    model.fit(
        x, x[:, 0, :1], batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks
    )


def norms(model: Any) -> Any:
    found = [each for each in model._flatten_layers() if isinstance(each, L.BatchNormalization)]
    assert found
    return found


@pytest.mark.parametrize("kind", RECURRENT)
def test_forced_bn_of_a_recurrent_layer_stays_as_it_is(kind):
    model = model_with(kind)
    before = [statistics(each) for each in norms(model)]
    bng.force_inference(model, layers="*")
    train(model)
    assert [statistics(each) for each in norms(model)] == before


@pytest.mark.parametrize("kind", RECURRENT)
def test_phases_freeze_and_unfreeze_a_recurrent_layer(kind):
    model = model_with(kind)
    start = [statistics(each) for each in norms(model)]
    seen = r.At(end=lambda model, epoch: [statistics(each) for each in norms(model)])
    phases = [
        bng.Phase("head", train="head", learning_rate=1e-2, epochs=1),
        bng.Phase("all", train="*", learning_rate=1e-3, epochs=1, batch_norm="train"),
    ]
    train(model, [r.scheduler(phases), seen], epochs=2)
    assert seen.seen[0] == start
    assert seen.seen[1] != start
