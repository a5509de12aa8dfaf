"""Attributes of objects that this package replaces for a while, and what was there before.

Every replaced `call`, `forward` and node of a graph is in one table, so that two context
managers that wrap the same attribute can be left in any order.
"""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, List, Sequence, Tuple

_LOCK = threading.RLock()
_MISSING = object()

Wrapper = Callable[[Any], Any]
"""Makes the replacement of an attribute from its value."""

Target = Tuple[Any, str, Wrapper]
"""(object, name of the attribute, wrapper)."""


class AttributePatches:
    """Replaced attributes by object and name.

    `who` distinguishes a second wrapper (forced inference inside another, a tracer around a step
    that forces inference) from the same one entered again (replica threads), which is only counted.
    """

    def __init__(self) -> None:
        self._open: Dict[Tuple[int, str], _Patch] = {}

    def enter(self, owner: Any, name: str, wrapper: Wrapper, who: Any, inner: bool = False) -> None:
        """Wrap an attribute of an object.

        Args:
            owner: the object.
            name: the name of the attribute.
            wrapper: makes the replacement.
            who: the context manager that wraps.
            inner: wrap below every wrapper that is not inner, whichever came first. Defaults
                to False.
        """
        with _LOCK:
            patch = self._open.get((id(owner), name))
            if patch is None:
                patch = _Patch(owner, name)
            if patch.enter(wrapper, who, inner):
                self._open[id(owner), name] = patch

    def leave(self, owner: Any, name: str, who: Any) -> None:
        """Undo one `enter`; the last one restores the attribute. No-op where there is none."""
        with _LOCK:
            patch = self._open.get((id(owner), name))
            if patch is not None and patch.leave(who):
                del self._open[id(owner), name]

    def count(self) -> int:
        """Return how many attributes are replaced now."""
        return len(self._open)


class _Patch:
    """One replaced attribute: what was there, and who wraps it, innermost first."""

    def __init__(self, owner: Any, name: str) -> None:
        self._owner, self._name = owner, name
        self._before = owner.__dict__.get(name, _MISSING)
        self._original = getattr(owner, name)
        self._wrappers: Dict[int, _Entry] = {}

    def enter(self, wrapper: Wrapper, who: Any, inner: bool) -> bool:
        """Add a wrapper, or count one that is there; whether the attribute was set again."""
        entry = self._wrappers.get(id(who))
        if entry is not None:
            entry.count += 1
            return False
        self._wrappers[id(who)] = _Entry(wrapper, who, inner)
        try:
            self._set()
        except BaseException:
            del self._wrappers[id(who)]
            if self._wrappers:
                self._set()
            raise
        return True

    def leave(self, who: Any) -> bool:
        """Remove a wrapper that was entered last; whether no wrapper is left."""
        entry = self._wrappers.get(id(who))
        if entry is None:
            return False
        entry.count -= 1
        if entry.count:
            return False
        del self._wrappers[id(who)]
        self._set()
        return not self._wrappers

    def _set(self) -> None:
        """Build the chain of wrappers; without one, restore what was there."""
        if self._wrappers:
            value = self._original
            for entry in sorted(self._wrappers.values(), key=lambda entry: not entry.inner):
                value = entry.wrapper(value)
            object.__setattr__(self._owner, self._name, value)
        elif self._before is _MISSING:
            object.__delattr__(self._owner, self._name)
        else:
            object.__setattr__(self._owner, self._name, self._before)


class _Entry:
    """One wrapper of an attribute. It keeps `who` alive, whose id is the key."""

    def __init__(self, wrapper: Wrapper, who: Any, inner: bool) -> None:
        self.wrapper, self.who, self.inner = wrapper, who, inner
        self.count = 1


PATCHES = AttributePatches()
"""The one table of this process."""


def wrap_all(targets: Sequence[Target], who: Any, inner: bool = False) -> None:
    """Wrap several attributes; if one cannot be wrapped, none is.

    Args:
        targets: (object, name of the attribute, wrapper) of each.
        who: the context manager that wraps.
        inner: see `AttributePatches.enter`. Defaults to False.
    """
    entered: List[Tuple[Any, str]] = []
    try:
        for owner, name, wrapper in targets:
            PATCHES.enter(owner, name, wrapper, who, inner)
            entered.append((owner, name))
    except BaseException:
        unwrap_all(entered, who)
        raise


def unwrap_all(targets: Sequence[Tuple[Any, ...]], who: Any) -> None:
    """Undo `wrap_all`, the last attribute first.

    Args:
        targets: tuples that begin with (object, name of the attribute).
        who: the context manager that wrapped.
    """
    for owner, name, *_ in reversed(targets):
        PATCHES.leave(owner, name, who)


def open_patches() -> int:
    """Return how many attributes are replaced now; 0 outside every context manager."""
    return PATCHES.count()
