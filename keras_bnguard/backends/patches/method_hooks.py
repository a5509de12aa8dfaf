"""Stand between a model and a method of its class, whichever class of it defines the method.

A `MethodHook` is in the `__dict__` of one class. It finds the method that the class resolves
to at each access, so the order of bases and `super()` calls of the user do not matter, and
nothing is on the model itself: a copy of it has nothing of this.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any, Callable, List, Optional

_LOCK = threading.RLock()
_MISSING = object()

Bind = Callable[[Any, Any, Callable[..., Any]], Callable[..., Any]]
"""Makes what a model gets from (the hook, the model, its own method)."""


class MethodHook:
    """Descriptor in the place of one method of one class.

    Args:
        owner: the class.
        name: the name of the method.
        bind: makes what a model of the class gets.
    """

    def __init__(self, owner: type, name: str, bind: Bind) -> None:
        self._owner, self._name, self._bind = owner, name, bind
        self._own = owner.__dict__.get(name, _MISSING)
        # `inspect` shows the function of Keras.
        self.__wrapped__ = getattr(owner, name)

    @property
    def replaces_own(self) -> bool:
        """Whether the class itself defines the method."""
        return self._own is not _MISSING

    def __get__(self, model: Any, cls: Optional[type] = None) -> Any:
        if model is None:
            if self._own is _MISSING:
                return getattr(super(self._owner, cls or self._owner), self._name)
            return self._own.__get__(None, cls)
        return self._bind(self, model, self._method(model))

    def __call__(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Call it as the function that it stands for, as code does that took it from the class."""
        return self.__get__(model, type(model))(*args, **kwargs)

    def _method(self, model: Any) -> Any:
        if self._own is _MISSING:
            return getattr(super(self._owner, model), self._name)
        return self._own.__get__(model, type(model))

    def remove(self) -> None:
        """Give the class its own method back; no-op where something else is in place."""
        if self._owner.__dict__.get(self._name) is not self:
            return
        if self._own is _MISSING:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._own)


def hook_method(owner: type, name: str, bind: Bind) -> Optional[MethodHook]:
    """Hook a method of a class for good; no-op where it is hooked, or where there is none.

    Args:
        owner: the class.
        name: the name of the method.
        bind: see `MethodHook`.
    """
    with _LOCK:
        if isinstance(owner.__dict__.get(name), MethodHook) or not _has(owner, name):
            return None
        hook = MethodHook(owner, name, bind)
        setattr(owner, name, hook)
        return hook


class ModelHooks:
    """Hooks on the class of models, for as long as one of these models needs them.

    Args:
        binds: name of a method -> what makes its replacement.
    """

    def __init__(self, binds: Any) -> None:
        self._binds = dict(binds)
        self._users: List[Any] = []
        self._hooks: List[Any] = []

    def add(self, model: Any) -> None:
        """Hook the class of a model; called again it hooks what the user has replaced since."""
        with _LOCK:
            self._clean()
            if not any(ref() is model for ref in self._users):
                self._users.append(weakref.ref(model))
            for name, bind in self._binds.items():
                hook = hook_method(type(model), name, bind)
                if hook is not None:
                    self._hooks.append((type(model), hook))

    def remove(self, model: Any) -> None:
        """The model needs no hooks any more; the last one of a class takes them off."""
        with _LOCK:
            self._users = [ref for ref in self._users if ref() is not model]
            self._clean()

    def _clean(self) -> None:
        self._users = [ref for ref in self._users if ref() is not None]
        used = {type(ref()) for ref in self._users}
        kept = []
        for cls, hook in self._hooks:
            if cls in used:
                kept.append((cls, hook))
            else:
                hook.remove()
        self._hooks = kept


def _has(owner: type, name: str) -> bool:
    return any(name in cls.__dict__ for cls in owner.__mro__)
