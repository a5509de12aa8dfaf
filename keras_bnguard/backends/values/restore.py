"""Save state and restore it: the one place where this package puts back what it changed.

with restoring(SavedRandomStates(), SavedVariables(backend, variables)):
    ...  # whatever happens in here, both are as before after it
"""

from __future__ import annotations

import contextlib
from typing import (
    Any,
    Collection,
    Dict,
    Iterator,
    List,
    Optional,
    Protocol,
    Sequence,
    Tuple,
)

import numpy as np

from keras_bnguard.backends.values.random_states import RandomState, generator_state, global_states
from keras_bnguard.backends.values.reachable import Reachable
from keras_bnguard.errors import UnsupportedModelError

_MISSING = object()
OUR_PREFIX = "_bng_"
"""Attributes of a model that begin so are this package's own."""


class Saved(Protocol):
    """State that was saved when this object was made."""

    def restore(self) -> None:
        """Put the state back; may be called several times."""


@contextlib.contextmanager
def restoring(*saved: Saved) -> Iterator[None]:
    """Restore saved state at the end of the block, the last one first, also after an error.

    If one cannot be restored, the others still are.

    Args:
        saved: objects that saved state when they were made.
    """
    with contextlib.ExitStack() as stack:
        for each in saved:
            stack.callback(each.restore)
        yield


class SavedVariables:
    """Values of variables, restored bit for bit where they changed; of replicas, every copy.

    Args:
        backend: the backend of the variables.
        variables: each once.
    """

    def __init__(self, backend: Any, variables: Sequence[Any]) -> None:
        self._values = backend.values
        self._saved = [
            (copy, np.array(self._values.to_numpy(copy), copy=True))
            for variable in variables
            for copy in self._values.copies(variable)
        ]

    def changed(self) -> bool:
        """Return whether any of the variables has another value now, in any bit."""
        return any(self.is_changed(variable, value) for variable, value in self._saved)

    def is_changed(self, variable: Any, value: np.ndarray) -> bool:
        """Return whether a variable has another value than this one, in any bit."""
        try:
            return bool(self._values.to_numpy(variable).tobytes() != value.tobytes())
        except Exception:  # JAX: a step that raised took the values with it.
            return True

    def restore(self) -> None:
        self.restore_changed()

    def restore_changed(self) -> bool:
        """As `restore`; return whether any of the variables had another value."""
        changed = [pair for pair in self._saved if self.is_changed(*pair)]
        for variable, value in changed:
            self._values.assign(variable, value)
        return bool(changed)


class SavedAttributes:
    """Some attributes of one object, past its own `__setattr__`; missing ones stay missing.

    Args:
        owner: the object.
        names: the names of its attributes.
    """

    def __init__(self, owner: Any, names: Sequence[str]) -> None:
        self._owner = owner
        self._saved = {name: owner.__dict__.get(name, _MISSING) for name in names}

    def restore(self) -> None:
        for name, value in self._saved.items():
            if value is _MISSING:
                self._owner.__dict__.pop(name, None)
            else:
                object.__setattr__(self._owner, name, value)


class SavedContents:
    """All attributes of one object, and what its lists, sets and dicts contain.

    Args:
        owner: the object.
    """

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._saved: Dict[str, Tuple[Any, Any]] = {
            name: (value, value.copy() if type(value) in (list, dict, set) else None)
            for name, value in owner.__dict__.items()
            if not name.startswith(OUR_PREFIX)
        }

    def restore(self, leave: Collection[str] = ()) -> None:
        """Put the state back; may be called several times.

        Args:
            leave: names of attributes that stay as they are. Defaults to none.
        """
        now = self._owner.__dict__
        for name in set(now) - set(self._saved) - set(leave):
            if not name.startswith(OUR_PREFIX):
                object.__delattr__(self._owner, name)
        for name, (value, contents) in self._saved.items():
            if name in leave:
                continue
            if name not in now or now[name] is not value:
                object.__setattr__(self._owner, name, value)
            if contents is not None:
                _set_contents(value, contents)


class SavedContainer:
    """What one list, dict, set or deque contains, those of Keras and TensorFlow included.

    Args:
        container: the container.
    """

    def __init__(self, container: Any) -> None:
        self._container = getattr(container, "__wrapped__", container)
        storage = getattr(self._container, "__dict__", {}).get("_storage")
        # The lists of TensorFlow keep what they contain, and how it was changed, in attributes.
        self._wrapper = None if storage is None else SavedContents(self._container)
        self._contents = _contents(self._container)

    def restore(self) -> None:
        if self._wrapper is not None:
            self._wrapper.restore()
        else:
            _set_contents(self._container, self._contents)


class SavedArray:
    """The values of one array of NumPy, which code may change in place.

    Args:
        array: the array.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._array, self._values = array, array.copy()

    def restore(self) -> None:
        if self._array.tobytes() != self._values.tobytes():
            self._array[...] = self._values


def _contents(container: Any) -> Any:
    if isinstance(container, dict):
        return dict(container)
    return set(container) if isinstance(container, set) else list(container)


def _set_contents(container: Any, contents: Any) -> None:
    """Give a container contents, past methods of its class that track changes."""
    now = _contents(container)
    if isinstance(container, set):
        if now != contents:
            set.clear(container)
            set.update(container, contents)
    elif isinstance(container, dict):
        if not _same(list(now), list(contents)) or not _same(now.values(), contents.values()):
            dict.clear(container)
            dict.update(container, contents)
    elif not _same(now, contents):
        if isinstance(container, list):
            list.__setitem__(container, slice(None), contents)
        else:
            container.clear()
            container.extend(contents)


def _same(some: Collection[Any], others: Collection[Any]) -> bool:
    return len(some) == len(others) and all(a is b for a, b in zip(some, others))


class SavedRandomStates:
    """Random states of this process.

    Args:
        backend: also save those that a model of this backend draws from. Defaults to None.
        more: states to save besides, see `random_states.generator_state`. Defaults to none.
    """

    def __init__(self, backend: Optional[Any] = None, more: Sequence[RandomState] = ()) -> None:
        self._saved: List[RandomState] = [*global_states(backend), *more]

    def restore(self) -> None:
        for put_back, state in self._saved:
            put_back(state)


class SavedModelState:
    """Everything that a call of a model can change, whatever list Keras has it in.

    That is every variable and every attribute that can be reached from the model: weights, seed
    generators, states of recurrent layers, ranges of quantizers, metrics, counters of the
    user's layers, random generators. On torch, buffers and mode flags of modules too.

    Args:
        backend: the backend of the model.
        model: a built model.
        assigned: also save variables where calls of this backend assign none (JAX). Defaults to
            False.
        without: objects that are left out. Defaults to none.

    Raises:
        UnsupportedModelError: a layer keeps what cannot be restored; names it.
    """

    def __init__(
        self, backend: Any, model: Any, assigned: bool = False, without: Sequence[Any] = ()
    ) -> None:
        found = Reachable(model, without)
        for owner, attribute in found.iterators:
            raise UnsupportedModelError(
                f"{owner}.{attribute} is an iterator, whose position cannot be restored, so the "
                "model is not run only to measure. Keep a list or a counter in its place."
            )
        states = [s for s in map(generator_state, found.generators) if s is not None]
        variables = found.variables if assigned or backend.values.calls_assign else []
        self._model = SavedContents(model)
        self._others: List[Saved] = [
            *(SavedContents(each) for each in found.objects if each is not model),
            *(SavedContainer(each) for each in found.containers),
            *(SavedArray(each) for each in found.arrays),
        ]
        self._variables = SavedVariables(backend, _each_once(backend, variables))
        self._random = states
        self._rewinds = 0
        self._calls_assign = False

    def restore(self, leave: Collection[str] = ()) -> None:
        """Put the state back; may be called several times.

        Args:
            leave: names of attributes of the model itself that stay as they are. Defaults to none.
        """
        self._variables.restore()
        self._restore_attributes(leave)

    def rewind(self) -> None:
        """Put the state back before another call that has to begin where the last one did.

        Variables are not compared again where the first two calls changed none.
        """
        self._rewinds += 1
        if self._calls_assign or self._rewinds <= 3:
            self._calls_assign |= self._variables.restore_changed()
        self._restore_attributes()

    def _restore_attributes(self, leave: Collection[str] = ()) -> None:
        for put_back, state in self._random:
            put_back(state)
        for each in reversed(self._others):
            each.restore()
        self._model.restore(leave)


@contextlib.contextmanager
def observing(backend: Any, model: Any) -> Iterator[SavedModelState]:
    """Run a model inside this block to measure only; all that calls can change is as before after.

    Args:
        backend: the backend of the model.
        model: a built model.

    Yields:
        Its state, to `rewind` between calls that are compared.

    Raises:
        UnsupportedModelError: a layer keeps what cannot be restored; names it.
    """
    state = SavedModelState(backend, model)
    with restoring(SavedRandomStates(backend), state):
        yield state


def _each_once(backend: Any, variables: Sequence[Any]) -> List[Any]:
    """Those with values; a variable of Keras and its tensor of torch are one."""
    found: Dict[int, Any] = {}
    for variable in variables:
        if getattr(variable, "shape", None) is not None:
            found.setdefault(backend.values.identity(variable), variable)
    return list(found.values())
