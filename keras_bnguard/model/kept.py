"""Objects of this package that live as long as a model.

A `WeakKeyDictionary` keeps a model alive for good as soon as one of its values refers to that
model, as every object with layers in it does. In the model's own `__dict__` the same reference
is a cycle, which the garbage collector frees. The entry is written past Keras's
`__setattr__`, so Keras does not track, save or count it; a copy of the model starts without,
a shallow copy too: an entry belongs to the model that it was made for.
"""

from __future__ import annotations

import weakref
from typing import Any, Dict, Optional, Type, TypeVar

_NAME = "_bng_kept"
T = TypeVar("T")


class _Kept:
    """The kept objects of one model, by class; empty in a copy or a pickle."""

    def __init__(self, model: Any = None) -> None:
        self._model = None if model is None else weakref.ref(model)
        self.by_class: Dict[type, Any] = {}

    def belongs_to(self, model: Any) -> bool:
        """Whether it was made for this very model."""
        return self._model is not None and self._model() is model

    def __reduce__(self) -> Any:
        return _Kept, ()


def kept_with(model: Any, cls: Type[T]) -> T:
    """The object of a class that is kept with a model; made at the first call.

    Args:
        model: a Keras model.
        cls: a class that needs no arguments.
    """
    kept = _of(model)
    if kept is None:
        kept = _Kept(model)
        object.__setattr__(model, _NAME, kept)
    if cls not in kept.by_class:
        kept.by_class[cls] = cls()
    found: T = kept.by_class[cls]
    return found


def find_kept(model: Any, cls: Type[T]) -> Optional[T]:
    """The object of a class that is kept with a model, None where there is none."""
    kept = _of(model)
    return None if kept is None else kept.by_class.get(cls)


def forget(model: Any, *classes: type) -> None:
    """Keep the objects of these classes no longer; no-op for those that are not kept."""
    kept = _of(model)
    if kept is None:
        return
    for cls in classes:
        kept.by_class.pop(cls, None)
    if not kept.by_class:
        object.__delattr__(model, _NAME)


def _of(model: Any) -> Optional[_Kept]:
    kept = getattr(model, "__dict__", {}).get(_NAME)
    return kept if kept is not None and kept.belongs_to(model) else None
