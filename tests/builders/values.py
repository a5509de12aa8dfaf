"""Values of models, optimizers and random generators on every stack, and their comparison."""

from __future__ import annotations

import random
from typing import Any, Iterator, List, Sequence

import numpy as np

from tests.stack import BACKEND, IS_KERAS3, keras


def as_array(value: Any) -> np.ndarray:
    """A copy of the value of a variable or a tensor."""
    if IS_KERAS3:
        return np.array(keras.ops.convert_to_numpy(value))
    return np.array(value.numpy() if hasattr(value, "numpy") else value)


def tensor(array: Any) -> Any:
    """The array as a tensor of the backend."""
    if IS_KERAS3:
        return keras.ops.convert_to_tensor(array)
    import tensorflow as tf

    return tf.convert_to_tensor(array)


def same(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    """Bit for bit: as bytes, so that -0.0 is not 0.0 and a NaN is itself."""
    return [a.tobytes() for a in one] == [b.tobytes() for b in other]


# ------------------------------------------------------------------------ model
def at(model: Any, path: str) -> Any:
    """The layer at a path of names, `backbone/bn1`; the model itself at the empty path."""
    for name in filter(None, path.split("/")):
        model = model.get_layer(name)
    return model


def all_layers(model: Any) -> Iterator[Any]:
    """Every layer below a model, models included."""
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from all_layers(layer)


def leaves(model: Any) -> Iterator[Any]:
    """Every layer below a model that contains no other."""
    return (layer for layer in all_layers(model) if not hasattr(layer, "layers"))


def weights(model: Any) -> List[np.ndarray]:
    """Copies of all weights."""
    return [np.array(value, copy=True) for value in model.get_weights()]


def statistics(model: Any, path: str = "") -> List[bytes]:
    """The statistics of the BN at a path, those of renorm too, as bytes: `==` compares bits.

    Args:
        model: a BN, or a model with one.
        path: names from the model to the BN, separated by `/`.
    """
    norm = at(model, path)
    names = ("moving_mean", "moving_variance", "renorm_mean", "renorm_stddev")
    vectors = [getattr(norm, name, None) for name in names]
    return [as_array(vector).tobytes() for vector in vectors if vector is not None]


# -------------------------------------------------------------------- optimizer
def optimizer_variables(model: Any) -> List[np.ndarray]:
    """Copies of all variables of the optimizer: iterations, state, and the learning rate."""
    found = model.optimizer.variables
    return [as_array(v) for v in (found() if callable(found) else found)]


def optimizer_state(model: Any) -> List[bytes]:
    """`optimizer_variables` as bytes: `==` compares bits."""
    return [value.tobytes() for value in optimizer_variables(model)]


def learning_rate(model: Any) -> float:
    """The learning rate of the optimizer, also inside the one that scales the loss."""
    inner = getattr(model.optimizer, "inner_optimizer", None) or model.optimizer
    return float(as_array(inner.learning_rate))


# --------------------------------------------------------------- random numbers
def random_state() -> List[Any]:
    """The next random numbers of everything a run could have drawn from."""
    drawn: List[Any] = [random.random(), float(np.random.random())]
    if IS_KERAS3:
        drawn.append(as_array(keras.random.uniform((2,))).tolist())
    if BACKEND == "tensorflow":
        import tensorflow as tf

        drawn.append(tf.random.uniform((2,)).numpy().tolist())
    if BACKEND == "torch":
        import torch

        drawn.append(torch.rand(2).tolist())
    return drawn


def seed_states(model: Any) -> List[Any]:
    """The state of every Keras 3 seed generator in a model."""
    layers = [model, *all_layers(model)]
    states = [getattr(getattr(each, "seed_generator", None), "state", None) for each in layers]
    return [as_array(state).tolist() for state in states if state is not None]
