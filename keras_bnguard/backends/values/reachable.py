"""Everything in a model that a call of it can change, found by walking its attributes.

Keras has lists of weights, but states of recurrent layers, counters, ranges of quantizers and
metrics inside `call` are in some of them on some Kerases only, and a plain attribute in none.
"""

from __future__ import annotations

import collections
import enum
import functools
import sys
import types
import weakref
from typing import Any, Dict, FrozenSet, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.known_stacks import FRAMEWORKS, TORCH
from keras_bnguard.backends.values.random_states import generator_state

MAX_ARRAY_BYTES = 64 * 2**20
"""Larger arrays in attributes are data, which a call reads."""
# Objects of a framework that have a state of their own; all others describe or compute.
_WITH_STATE = frozenset({"Operation", "Layer", "Metric", "SeedGenerator", "Module", "Generator"})
_WITHOUT = frozenset({"Optimizer", "OptimizerV2", "Dataset", "DatasetV2", "DataLoader"})
_FRAMEWORKS = FRAMEWORKS | frozenset(["jaxlib", "numpy", "flax", "keras_bnguard", "wrapt"])
_PLAIN = (str, bytes, int, float, complex, type(None), type, enum.Enum, type(Ellipsis))
_SKIPPED = (
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.CodeType,
    functools.partial,
    weakref.ref,
    weakref.WeakKeyDictionary,
    weakref.WeakValueDictionary,
)
_CONTAINERS = (list, dict, set, collections.deque)


class Reachable:
    """What a walk through the attributes of an object finds, each thing once.

    Args:
        root: the object to begin with.
        without: objects that are left out, with what only they refer to.

    Attributes:
        variables: variables of Keras, TensorFlow variables, tensors of torch.
        arrays: arrays of NumPy, which code may change in place.
        objects: objects with attributes.
        containers: lists, dicts, sets and deques.
        generators: random generators of Python, NumPy and torch.
        iterators: (class of the object, attribute) of iterators: no position can be restored.
    """

    def __init__(self, root: Any, without: Sequence[Any] = ()) -> None:
        self.variables: List[Any] = []
        self.arrays: List[np.ndarray] = []
        self.objects: List[Any] = []
        self.containers: List[Any] = []
        self.generators: List[Any] = []
        self.iterators: List[Tuple[str, str]] = []
        torch = sys.modules.get(TORCH)
        self._tensor: Tuple[type, ...] = () if torch is None else (torch.Tensor,)
        seen: Dict[int, Any] = {id(each): each for each in without}
        pending: List[Any] = [root]
        while pending:
            thing = pending.pop()
            if isinstance(thing, _PLAIN) or id(thing) in seen:
                continue
            seen[id(thing)] = thing
            pending.extend(self._note(thing))

    def _note(self, thing: Any) -> Iterable[Any]:
        """Note one thing; return what it holds."""
        kind = type(thing)
        if isinstance(thing, self._tensor) or is_variable(thing):
            self.variables.append(thing)
        elif isinstance(thing, np.ndarray):
            if thing.nbytes <= MAX_ARRAY_BYTES and thing.dtype != object:
                self.arrays.append(thing)
        elif isinstance(thing, _SKIPPED):
            pass
        elif isinstance(thing, _CONTAINERS):
            self.containers.append(thing)
            return list(thing.values() if isinstance(thing, dict) else thing)
        elif isinstance(thing, tuple):
            return thing
        elif generator_state(thing) is not None:
            self.generators.append(thing)
        elif _has_state(kind):
            inside = _attributes(thing)
            if inside is not None:
                self.objects.append(thing)
                self._note_iterators(kind, inside)
                return list(inside.values())
        return ()

    def _note_iterators(self, kind: type, inside: Dict[str, Any]) -> None:
        if _root(kind) not in _FRAMEWORKS:
            self.iterators += [
                (kind.__name__, name)
                for name, value in inside.items()
                if isinstance(value, Iterator)
            ]


def is_variable(thing: Any) -> bool:
    """Return whether something is a variable; asks its class only, so that nothing is made."""
    kind = type(thing)
    return all(hasattr(kind, name) for name in ("assign", "shape", "dtype"))


def _has_state(kind: type) -> bool:
    """Whether objects of a class are walked into: those of the user's, and a few of Keras's."""
    if issubclass(kind, Iterator):
        return False
    names = {base.__name__ for base in kind.__mro__}
    if names & _WITHOUT:
        return False
    if names & _WITH_STATE:
        return True
    if hasattr(kind, "dtype"):  # A tensor or an array of another framework.
        return False
    return _root(kind) not in _FRAMEWORKS and _root(kind) not in _library()


def _attributes(thing: Any) -> Optional[Dict[str, Any]]:
    try:
        return dict(vars(thing))
    except TypeError:
        return None


def _root(kind: type) -> str:
    return str(kind.__module__).split(".", 1)[0]


@functools.cache
def _library() -> FrozenSet[str]:
    """Modules of Python itself; their objects have no state that a model's call is about."""
    names: FrozenSet[str] = getattr(sys, "stdlib_module_names", frozenset())
    return (names or frozenset(["builtins", "threading", "abc", "logging", "re"])) - {"__main__"}
