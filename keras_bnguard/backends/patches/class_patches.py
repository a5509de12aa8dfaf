"""Attributes of classes that this package replaces for a while; only what is ours is taken off.

A user, a logger or a test may replace the same attribute before, while or after ours is in place.
Where somebody stands in front of ours, it stays behind them and only passes on; it is taken off
as soon as it is called on the class again, as after `unittest.mock` has put it back.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from typing import Any, Callable, Dict, List, NamedTuple

_LOCK = threading.RLock()
_ABSENT = object()

Make = Callable[[Any], Any]
"""Makes the replacement of an attribute from its value."""


class _Replaced(NamedTuple):
    owner: type
    name: str
    before: Any
    mine: Any

    def is_in_place(self) -> bool:
        return self.owner.__dict__.get(self.name) is self.mine

    def restore(self) -> None:
        if self.before is _ABSENT:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self.before)


class ClassPatches:
    """The attributes that one owner has replaced, in their order."""

    def __init__(self) -> None:
        self._replaced: List[_Replaced] = []

    def put(self, owner: type, name: str, make: Make) -> None:
        """Replace an attribute of exactly this class.

        Args:
            owner: the class.
            name: the name of the attribute, which it has itself or from a base.
            make: makes the replacement from what the class has now.
        """
        with _LOCK:
            before = owner.__dict__.get(name, _ABSENT)
            mine = make(getattr(owner, name) if before is _ABSENT else before)
            self._replaced.append(_Replaced(owner, name, before, mine))
            setattr(owner, name, mine)

    def take_off(self) -> None:
        """Restore what was there wherever ours is in place; call it again for what was hidden."""
        if self._replaced:
            with _LOCK:
                kept = [each for each in reversed(self._replaced) if not _restored(each)]
                self._replaced = kept[::-1]


def _restored(each: _Replaced) -> bool:
    if each.is_in_place():
        each.restore()
        return True
    return False


def owner_of(cls: type, name: str) -> Any:
    """The class from which `cls` has an attribute."""
    return next((each for each in cls.__mro__ if name in each.__dict__), cls)


def stands_for(original: Any, mine: Any, runs_in_graphs: bool = False) -> Any:
    """Give a function the name, signature and doc of the one that it calls.

    Tracebacks and profilers then show its name, and `inspect.getsource` its source.

    Args:
        original: what is replaced.
        mine: the replacement.
        runs_in_graphs: whether TensorFlow traces it. AutoGraph leaves Keras's code alone by its
            module, and would follow `__wrapped__`. Defaults to False.
    """
    name = getattr(original, "__name__", mine.__name__)
    names: Dict[str, Any] = {"co_name": name}
    if hasattr(mine.__code__, "co_qualname"):  # Python 3.11
        names["co_qualname"] = getattr(original, "__qualname__", name)
    mine.__code__ = mine.__code__.replace(**names)
    functools.update_wrapper(mine, original)
    with contextlib.suppress(TypeError, ValueError):
        mine.__signature__ = inspect.signature(original)
    if runs_in_graphs:
        del mine.__wrapped__
    return mine
