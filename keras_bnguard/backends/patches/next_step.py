"""Be there when the next training step of a model runs, once, and leave no trace behind."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from typing import Any, Callable


def _nothing() -> None:
    """A weak reference to nothing."""


class NextStep(ABC):
    """Runs in the place of the next step of a model, which it calls itself.

    The model's `train_function` is replaced by one that restores the real one first.

    Args:
        backend: the backend of the model.
        model: a weak reference to it is kept.
    """

    def __init__(self, backend: Any, model: Any) -> None:
        self._backend = backend
        self._model = weakref.ref(model)
        # Weak: JAX reuses what it traced of a step for as long as that step is alive, also for a
        # model that was compiled again. So nothing here may keep an old step from being dropped.
        self._mine: Callable[[], Any] = _nothing

    @abstractmethod
    def run(self, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call the real train function with its arguments, and return what it returns."""

    def arm(self) -> None:
        """Be called at the next step; nothing happens where there is no train function yet."""
        model = self._model()
        if model is None or not self._backend.step.has_train_function(model):
            return
        original = model.train_function
        if original is self._mine():
            return
        watcher = weakref.ref(self)

        def train_function(*args: Any, **kwargs: Any) -> Any:
            owner = owner_ref()
            if owner is not None and owner.train_function is mine():
                object.__setattr__(owner, "train_function", original)
            me = watcher()
            if me is None:
                return original(*args, **kwargs)
            me._mine = _nothing
            return me.run(original, args, kwargs)

        owner_ref = self._model
        train_function.original = original  # type: ignore[attr-defined]
        mine = self._mine = weakref.ref(train_function)
        object.__setattr__(model, "train_function", train_function)

    def disarm(self) -> None:
        """Put the real train function back, where ours is still in place."""
        model, mine = self._model(), self._mine()
        original = getattr(mine, "original", None)
        if original is not None and getattr(model, "train_function", None) is mine:
            object.__setattr__(model, "train_function", original)
        self._mine = _nothing
