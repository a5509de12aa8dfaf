"""Notice, while training runs, that somebody assigns `trainable`, compiles, or trains anew.

One pair of class-level hooks per Keras serves all runs under way; the last run to stop puts
the very same property and function objects back. Only a run that is still alive is told.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from typing import Any, Callable, Dict, List, Optional, Protocol

_LOCK = threading.RLock()


class Listener(Protocol):
    """What a run offers to be told about. A fault of its own it keeps to itself, what is meant
    for the user it raises."""

    def before_flip(self, layer: Any) -> None: ...

    def after_flip(self, layers: Dict[int, bool], source: Optional[str]) -> None: ...

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
            if _called_from("on_train_end", 12):
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
                listener.before_flip(layer)
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
            listener.after_flip(trainable_changes, source)


def owner_of(cls: type, name: str) -> Any:
    """The class from which `cls` has an attribute."""
    return next((each for each in cls.__mro__ if name in each.__dict__), cls)


_HOOKS: Dict[int, _Hooks] = {}


def start(backend: Any, listener: Listener) -> None:
    """Tell `listener` from now on; it is held weakly."""
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
    """No longer tell `listener`; the last one to leave takes the hooks off the classes."""
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


def fit_under_way(model: Any) -> Optional[int]:
    """What tells the `fit` of a model that is on the call stack from every other one."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is model:
            return id(frame)
        frame = frame.f_back
    return None


def inside_fit(mark: Optional[int]) -> bool:
    """Whether the code that runs now was called, at any depth, from that very `fit`.

    A `fit` that an exception ended may live on in a traceback: then it is not on the stack, and
    no other one has its mark.
    """
    frame: Any = sys._getframe(1)
    while frame is not None:
        if id(frame) == mark:
            return True
        frame = frame.f_back
    return False


def when_fit_is_left(work: Callable[[], None]) -> None:
    """Call `work` when the `fit` under way is left, also by an exception, which no hook tells.

    The list of callbacks that Keras makes for a `fit` lives as long as its frame; the nearest
    one among the callers is waited for. Nothing happens where there is none.
    """
    frame: Any = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self") if frame.f_code.co_name == "on_train_begin" else None
        if type(owner).__name__ == "CallbackList":
            weakref.finalize(owner, work).atexit = False
            return
        frame = frame.f_back


def announce_phase(backend: Any, model: Any, phase: str) -> None:
    """Tell every run that a scheduler has changed a model's flags and step on purpose."""
    hooks = _HOOKS.get(id(backend.keras))
    for listener in hooks.alive() if hooks is not None else ():
        listener.after_phase(model, phase)


def _keras_restores_flags() -> bool:
    """Keras 2 sets flags itself at the begin and end of `fit`; nobody flipped them."""
    return _called_from("_set_trainable_state", 6)


def _called_from(name: str, depth: int) -> bool:
    """Whether a function of that name is among the nearest frames of the call stack."""
    frame: Any = sys._getframe(1)
    for _ in range(depth):
        if frame is None:
            return False
        if frame.f_code.co_name == name:
            return True
        frame = frame.f_back
    return False


def user_line(*packages: str) -> Optional[str]:
    """`file.py:41` of the innermost frame that is not Keras's, an backend's or ours."""
    skip = {"keras_bnguard", "keras", "tf_keras", "tensorflow", "torch", "jax", *packages}
    frame: Any = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", "")).split(".", 1)[0]
        if module not in skip and not frame.f_code.co_filename.startswith("<"):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return None
