"""Report assignments of `trainable`, `compile` and new train functions while training runs.

One pair of class-level hooks per Keras serves all runs under way; the last run to stop puts
the very same property and function objects back. Only runs that are still alive are called.
"""

from __future__ import annotations

import functools
import threading
import weakref
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Protocol

from keras_bnguard.backends.call_stack import called_from, user_line

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
        self.layer_class = backend.keras.layers.Layer
        self.model_class = backend.keras.Model

    def alive(self) -> List[Any]:
        return [x for x in (ref() for ref in list(self.listeners)) if x is not None]

    # ----------------------------------------------------------- installation
    def install(self) -> None:
        # Keras 2's BN has a `trainable` of its own, beside the one of all layers.
        classes = [self.layer_class]
        for norm in self.backend.graph.norm_classes():
            classes += [c for c in norm.__mro__ if "trainable" in c.__dict__ and c not in classes]
        self.properties = {cls: cls.__dict__["trainable"] for cls in classes}
        for cls, own in self.properties.items():
            cls.trainable = self._observed(own)
        hooks = self
        # On the very class that has it: Keras 3 compares `compile` of a model with that of the
        # trainer it comes from, and compiles no loaded or cloned model where the two differ.
        self.compile_class = owner_of(self.model_class, "compile")
        original = self.own_compile = self.compile_class.__dict__["compile"]

        @functools.wraps(original)
        def compile(model: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(model, *args, **kwargs)
            if called_from("on_train_end", 12):
                return result  # Training is over: compiling for what comes next is right.
            source = user_line(hooks.backend.package)
            for listener in hooks.alive():
                listener.after_compile(model, source)
            return result

        self.compile_class.compile = compile
        self.make_class = owner_of(self.model_class, "make_train_function")
        make = self.own_make = self.make_class.__dict__["make_train_function"]

        @functools.wraps(make)
        def make_train_function(model: Any, *args: Any, **kwargs: Any) -> Any:
            for listener in hooks.alive():
                listener.before_training(model)
            return make(model, *args, **kwargs)

        self.make_class.make_train_function = make_train_function

    def _observed(self, own: Any) -> property:
        def set_trainable(layer: Any, value: Any) -> None:
            self.assign(own.fset, layer, value)

        return property(own.fget, set_trainable, own.fdel, own.__doc__)

    def uninstall(self) -> None:
        for cls, own in self.properties.items():
            cls.trainable = own
        self.compile_class.compile = self.own_compile
        self.make_class.make_train_function = self.own_make

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


def owner_of(cls: type, name: str) -> Any:
    """The class from which `cls` has an attribute."""
    return next((each for each in cls.__mro__ if name in each.__dict__), cls)


_HOOKS: Dict[int, _Hooks] = {}


def start(backend: Any, listener: Listener) -> None:
    """Call `listener` from now on; only a weak reference to it is kept."""
    with _LOCK:
        hooks = _HOOKS.get(id(backend.keras))
        if hooks is None:
            hooks = _HOOKS[id(backend.keras)] = _Hooks(backend)
            hooks.install()
        hooks.listeners = [ref for ref in hooks.listeners if ref() is not None]
        # A run nobody stopped, as where `fit` raised, ends when it is collected.
        gone = functools.partial(_collected, id(backend.keras))
        hooks.listeners.append(weakref.ref(listener, gone))


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
            hooks.uninstall()
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
