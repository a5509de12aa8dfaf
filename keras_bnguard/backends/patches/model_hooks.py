"""Report assignments of `trainable`, `compile` and new train functions while training runs.

One set of class-level hooks per Keras serves all runs under way; the last run to stop takes
them off (`class_patches`). Only runs that are still alive are called.
"""

from __future__ import annotations

import functools
import threading
import weakref
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Protocol

from keras_bnguard.backends.call_stack import called_from, user_line
from keras_bnguard.backends.patches.class_patches import ClassPatches, owner_of, stands_for

if TYPE_CHECKING:  # Imported at start-up, which loads no NumPy.
    from keras_bnguard.records.ids import LayerId


_LOCK = threading.RLock()


class Listener(Protocol):
    """What is called. A method keeps an internal error to itself; it raises what the user asked
    for."""

    def before_trainable_change(self, layer: Any) -> None: ...

    def after_trainable_change(
        self, layers: Dict[LayerId, bool], source: Optional[str]
    ) -> None: ...

    def after_compile(self, model: Any, source: Optional[str]) -> None: ...

    def before_training(self, model: Any) -> None: ...

    def after_phase(self, model: Any, phase: str) -> None: ...

    def failed(self, error: Exception) -> None: ...


class _Hooks:
    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.listeners: List[weakref.ref[Any]] = []
        self.local = threading.local()
        self.patches = ClassPatches()

    def alive(self) -> List[Any]:
        """The listeners; without any these hooks are not in use, and what is left of them goes."""
        found = [x for x in (ref() for ref in list(self.listeners)) if x is not None]
        if not found:
            self.patches.take_off()
        return found

    # ----------------------------------------------------------- installation
    def install(self) -> None:
        # Keras 2's BN has a `trainable` of its own, beside the one of all layers.
        classes = [self.backend.keras.layers.Layer]
        for norm in self.backend.graph.norm_classes():
            classes += [c for c in norm.__mro__ if "trainable" in c.__dict__ and c not in classes]
        for cls in classes:
            self.patches.put(cls, "trainable", self._observed)
        # On the very class that has it: Keras 3 compares `compile` of a model with that of the
        # trainer it comes from, and compiles no loaded or cloned model where the two differ.
        model = self.backend.keras.Model
        for name, make in (("compile", self._compile), ("make_train_function", self._make)):
            self.patches.put(owner_of(model, name), name, make)

    def _compile(self, original: Any) -> Any:
        def compile(model: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(model, *args, **kwargs)
            if called_from("on_train_end", 12):
                return result  # Training is over: compiling for what comes next is right.
            source = user_line(self.backend.package)
            for listener in self.alive():
                listener.after_compile(model, source)
            return result

        return stands_for(original, compile)

    def _make(self, original: Any) -> Any:
        def make_train_function(model: Any, *args: Any, **kwargs: Any) -> Any:
            for listener in self.alive():
                listener.before_training(model)
            return original(model, *args, **kwargs)

        return stands_for(original, make_train_function)

    def _observed(self, own: Any) -> property:
        def set_trainable(layer: Any, value: Any) -> None:
            self.assign(own.fset, layer, value)

        return property(own.fget, stands_for(own.fset, set_trainable), own.fdel, own.__doc__)

    # --------------------------------------------------------------- listening
    def assign(self, setter: Any, layer: Any, value: Any) -> None:
        listeners = self.alive()
        if not listeners:
            setter(layer, value)
            return
        if getattr(self.local, "inside", False) or _keras_restores_flags():
            setter(layer, value)
            return
        self.local.inside = True
        try:
            for listener in listeners:
                listener.before_trainable_change(layer)
            setter(layer, value)
        finally:
            self.local.inside = False
        try:
            trainable_changes = {
                id(each): bool(each.trainable) for each in self.backend.graph.all_layers(layer)
            }
            source = user_line(self.backend.package)
        except Exception as error:
            # As where a `trainable` of the user's own cannot be read yet.
            for listener in listeners:
                listener.failed(error)
            return
        for listener in listeners:
            listener.after_trainable_change(trainable_changes, source)


_HOOKS: Dict[int, _Hooks] = {}


def start(backend: Any, listener: Listener) -> None:
    """Call `listener` from now on; only a weak reference to it is kept."""
    with _LOCK:
        hooks = _HOOKS.get(id(backend.keras)) or _Hooks(backend)
        hooks.listeners = [ref for ref in hooks.listeners if ref() is not None]
        # A run nobody stopped, as where `fit` raised, ends when it is collected.
        gone = functools.partial(_collected, id(backend.keras))
        hooks.listeners.append(weakref.ref(listener, gone))
        if id(backend.keras) not in _HOOKS:
            _HOOKS[id(backend.keras)] = hooks
            hooks.install()


def stop(backend: Any, listener: Listener) -> None:
    """No longer call `listener`; the last one to leave takes the hooks off the classes."""
    _leave(id(backend.keras), listener)


def _collected(key: int, ref: Any) -> None:
    _leave(key, None)


def _leave(key: int, listener: Optional[Listener]) -> None:
    with _LOCK:
        hooks = _HOOKS.get(key)
        if hooks is None:
            return
        hooks.listeners = [
            ref for ref in hooks.listeners if ref() is not None and ref() is not listener
        ]
        if not hooks.listeners:
            hooks.patches.take_off()
            del _HOOKS[key]


def runs_of(model: Any) -> List[Any]:
    """The runs under way that watch this very model."""
    with _LOCK:
        listeners = [x for hooks in _HOOKS.values() for x in hooks.alive()]
    return [run for run in listeners if getattr(run, "watches", lambda other: False)(model)]


def announce_phase(backend: Any, model: Any, phase: str) -> None:
    """Report to every run that a scheduler has changed a model's flags and step on purpose."""
    hooks = _HOOKS.get(id(backend.keras))
    for listener in hooks.alive() if hooks is not None else ():
        listener.after_phase(model, phase)


def _keras_restores_flags() -> bool:
    """Keras 2 sets flags itself at the start and end of `fit`; the user changed none."""
    return called_from("_set_trainable_state", 6)
