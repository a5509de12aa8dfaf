"""Save state and restore it: the one place where this package puts back what it changed.

with restoring(SavedRandomStates(), SavedVariables(backend, variables)):
    ...  # whatever happens in here, both are as before after it
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List, Optional, Protocol, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.values.random_states import RandomState, global_states

_MISSING = object()


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
    """Values of variables, restored bit for bit where they changed.

    Args:
        backend: the backend of the variables.
        variables: each once.
    """

    def __init__(self, backend: Any, variables: Sequence[Any]) -> None:
        self._values = backend.values
        self._saved = [(v, np.array(self._values.to_numpy(v), copy=True)) for v in variables]

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
        for variable, value in self._saved:
            if self.is_changed(variable, value):
                self._values.assign(variable, value)


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
        }

    def restore(self) -> None:
        for name in set(self._owner.__dict__) - set(self._saved):
            object.__delattr__(self._owner, name)
        for name, (value, contents) in self._saved.items():
            object.__setattr__(self._owner, name, value)
            if contents is not None:
                value.clear()
                getattr(value, "extend" if isinstance(value, list) else "update")(contents)


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


class SavedInferenceState:
    """What running a model in inference mode may still change.

    A BN that is called with `training=True`, a layer that counts its calls, an `add_metric`:
    each may assign variables in a call that was meant to read only. On torch, the mode flags of
    modules too.

    Args:
        backend: the backend of the model.
        model: a built model.
    """

    def __init__(self, backend: Any, model: Any) -> None:
        self._variables = SavedVariables(backend, backend.values.changed_by_inference(model))
        self._modes = [(each, each.training) for each in backend.values.modules_with_mode(model)]

    def restore(self) -> None:
        self._variables.restore()
        for module, flag in self._modes:
            if module.training != flag:
                module.training = flag
