"""A model with every kind of state that a call can change, and that state as bytes."""

from __future__ import annotations

import gc
import types
from typing import Any, Dict, List

import numpy as np

from tests.builders.models import BN, layers
from tests.builders.values import as_array
from tests.stack import IS_KERAS3, keras

ROWS, STEPS = 8, 3


def variable(value, name):
    """A variable that the layer which keeps it in a dict does not track."""
    if IS_KERAS3:
        return keras.Variable(value, trainable=False, name=name)
    import tensorflow as tf

    return tf.Variable(value, trainable=False, name=name)


class Counts(layers.Layer):
    """Its call changes variables, a plain attribute, a list, an array and a random generator."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = 0
        self.shapes = []
        self.totals = np.zeros(2)
        self.generator = np.random.default_rng(3)
        self.range = Range()

    def build(self, input_shape):
        self.count = self.add_weight(name="count", shape=(), initializer="zeros", trainable=False)
        self.built = True

    def call(self, x):
        self.calls += 1
        self.shapes.append(tuple(x.shape))
        self.totals[0] += self.generator.random()
        self.count.assign(self.count + 1.0)
        self.range.low.assign(self.range.low - 1.0)
        return x

    def compute_output_shape(self, shape):
        return shape


class Range:
    """A plain object with a variable, as quantizers have."""

    def __init__(self):
        self.low = variable(0.0, "low")


def stateful(compiled=True):
    """Stateful recurrent layers below BN, counters, and noise with a seed; inputs (8, 3, 2)."""
    inputs = keras.Input(batch_shape=(ROWS, STEPS, 2), name="series")
    x = layers.LSTM(3, stateful=True, return_sequences=True, name="lstm")(inputs)
    x = BN(momentum=0.9, name="bn")(x)
    x = layers.SimpleRNN(3, stateful=True, name="rnn")(x)
    x = Counts(name="counts")(x)
    x = layers.Dropout(0.3, name="drop")(x)
    x = BN(momentum=0.9, name="second_bn")(x)
    model = keras.Model(inputs, layers.Dense(1, name="out")(x), name="stateful")
    if compiled:
        model.compile(keras.optimizers.SGD(0.01), "mse", metrics=["mae"])
    return model


def series(rows=8 * ROWS):
    """Inputs and labels for `stateful`."""
    x = np.random.default_rng(0).normal(1.0, 2.0, (rows, STEPS, 2)).astype("float32")
    return x, x.sum(axis=(1, 2), keepdims=True)[:, 0]


def state_of(model: Any, without: str = "moving_") -> Dict[str, List[bytes]]:
    """Every variable that the model refers to, and the plain state of its `Counts` layers.

    Variables are found through the garbage collector, so whatever attribute they are in.

    Args:
        model: the model.
        without: leave out variables that have this in their path. Defaults to moving statistics.
    """
    seen, pending, found = set(), [model], {}
    while pending:
        thing = pending.pop()
        if id(thing) in seen or isinstance(thing, _NOT_WALKED):
            continue
        seen.add(id(thing))
        if _is_variable(thing):
            found[id(thing)] = thing
        elif type(thing).__module__.split(".")[0] not in ("jax", "jaxlib", "keras_bnguard"):
            pending.extend(gc.get_referents(thing))
    names = {key: str(getattr(v, "path", getattr(v, "name", ""))) for key, v in found.items()}
    state: Dict[str, List[bytes]] = {}
    for key, v in found.items():
        if without not in names[key]:
            state.setdefault(names[key], []).append(np.ascontiguousarray(as_array(v)).tobytes())
    for values in state.values():
        values.sort()  # The order in which the collector finds variables of one name.
    for layer in model.layers:
        if isinstance(layer, Counts):
            state[layer.name] = [
                repr((layer.calls, list(layer.shapes), layer.totals)).encode(),
                repr(layer.generator.bit_generator.state).encode(),
            ]
    return state


_NOT_WALKED = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.CodeType,
    types.FrameType,
    str,
    bytes,
    int,
    float,
)


def _is_variable(thing: Any) -> bool:
    kind = type(thing)
    if kind.__module__.startswith("torch"):
        return False  # The tensor inside a variable of Keras.
    return all(hasattr(kind, name) for name in ("assign", "shape", "dtype"))
