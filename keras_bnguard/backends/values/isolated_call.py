"""Run a call of a layer beside the training step, with values of our own for its variables.

Nothing of the user's is changed: Keras 3 keeps new values in a stateless scope; elsewhere they
are assigned, and the old ones restored in `finally`.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Callable, Iterator, List, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.values.random_states import set_seeds
from keras_bnguard.backends.values.restore import SavedModelState, SavedRandomStates, restoring


@dataclass(frozen=True)
class TensorSpec:
    """A tensor in the arguments of a call.

    Attributes:
        shape: its shape.
        dtype: the name of its dtype.
    """

    shape: Tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class IsolatedResult:
    """What an isolated call did.

    Attributes:
        outputs: the output tensors, as float64.
        changed: of each variable in the order they were given, whether any bit has changed.
    """

    outputs: Tuple[np.ndarray, ...]
    changed: Tuple[bool, ...]


def isolated_call(
    backend: Any,
    owner: Any,
    call: Callable[..., Any],
    arguments: Any,
    values: Sequence[Tuple[Any, np.ndarray]],
    seed: int = 0,
) -> IsolatedResult:
    """Run a call outside of every trace.

    Args:
        backend: the backend.
        owner: the layer or torch module whose call it is.
        call: takes the arguments.
        arguments: (positional, keyword); each tensor is a pair of array and dtype name.
        values: (variable, its value for this call) of all variables of the owner.
        seed: for Python, NumPy and torch. Defaults to 0.

    Raises:
        Exception: the call cannot be run in this way.
    """
    variables = [variable for variable, _ in values]
    with backend.step.outside_trace():
        scope = _stateless if _can_be_stateless(backend, owner) else _assigned
        with scope(backend, owner, values) as read:
            set_seeds(seed)
            before = [_numpy(backend, read(variable)).tobytes() for variable in variables]
            args, kwargs = _map(
                arguments, lambda x: _tensor(backend, *x) if isinstance(x, _Pair) else x
            )
            outputs = call(*args, **kwargs)
            after = [_numpy(backend, read(variable)).tobytes() for variable in variables]
            arrays = tuple(
                np.asarray(backend.values.tensor_to_numpy(t)).astype(np.float64)
                for t in _tensors(outputs)
            )
            return IsolatedResult(arrays, tuple(a != b for a, b in zip(before, after)))


def all_variables(owner: Any) -> List[Any]:
    """Return every variable of a layer, or every parameter and buffer of a torch module."""
    if hasattr(owner, "call"):
        return list({id(v): v for v in owner.variables}.values())
    return [*owner.parameters(), *owner.buffers()]


def describe_tensors(backend: Any, structure: Any) -> Any:
    """Return a structure with a `TensorSpec` in place of every tensor; axes without size get 3.

    Args:
        backend: the backend.
        structure: arguments of a call.
    """

    def describe(leaf: Any) -> Any:
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            return leaf
        shape = tuple(3 if d is None else int(d) for d in leaf.shape)
        return TensorSpec(shape, backend.values.dtype_of(leaf))

    return _map(structure, describe)


def map_specs(structure: Any, make: Callable[[TensorSpec], Any]) -> Any:
    """Return a structure in which `make` has replaced every `TensorSpec`."""
    return _map(structure, lambda leaf: make(leaf) if isinstance(leaf, TensorSpec) else leaf)


class _Pair(Tuple[np.ndarray, str]):
    """An array and the name of the dtype that the tensor of it gets."""


def with_dtype(array: np.ndarray, dtype: str) -> Any:
    """Mark an array in the arguments of `isolated_call` as a tensor."""
    return _Pair((array, dtype))


def _map(structure: Any, change: Callable[[Any], Any]) -> Any:
    """A structure of dicts, lists and tuples with each leaf changed; a `_Pair` is a leaf."""
    if isinstance(structure, dict):
        return {key: _map(value, change) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)) and not isinstance(structure, _Pair):
        return type(structure)(_map(value, change) for value in structure)
    return change(structure)


def _can_be_stateless(backend: Any, owner: Any) -> bool:
    return hasattr(backend.keras, "StatelessScope") and hasattr(owner, "call")


@contextlib.contextmanager
def _stateless(backend: Any, owner: Any, values: Any) -> Iterator[Callable[[Any], Any]]:
    mapping = [(v, _tensor(backend, value, _dtype(backend, v))) for v, value in values]
    saved = (SavedRandomStates(), SavedModelState(backend, owner))
    with restoring(*saved), backend.keras.StatelessScope(mapping) as scope:
        yield scope.get_current_value


@contextlib.contextmanager
def _assigned(backend: Any, owner: Any, values: Any) -> Iterator[Callable[[Any], Any]]:
    saved = (SavedRandomStates(backend), SavedModelState(backend, owner))
    with restoring(*saved):
        for variable, value in values:
            backend.values.assign(variable, value)
        yield lambda variable: backend.values.to_numpy(variable)


def _dtype(backend: Any, variable: Any) -> str:
    return str(backend.values.dtype_of(variable))


def _tensor(backend: Any, array: np.ndarray, dtype: str) -> Any:
    ops = getattr(backend.keras, "ops", None)
    if ops is not None and hasattr(ops, "convert_to_tensor"):
        return ops.convert_to_tensor(array, dtype=dtype)
    import tensorflow as tf

    return tf.cast(tf.convert_to_tensor(array), dtype)


def _tensors(outputs: Any) -> List[Any]:
    if isinstance(outputs, dict):
        return [tensor for value in outputs.values() for tensor in _tensors(value)]
    if isinstance(outputs, (list, tuple)):
        return [tensor for value in outputs for tensor in _tensors(value)]
    return [outputs] if hasattr(outputs, "shape") else []


def _numpy(backend: Any, value: Any) -> np.ndarray:
    return value if isinstance(value, np.ndarray) else backend.values.tensor_to_numpy(value)
