"""What can be read off classes and signatures, without asking a Keras."""

from __future__ import annotations

import inspect
import types
import weakref
from typing import Any, Dict, MutableMapping

OURS = __name__.split(".", 1)[0]
"""The import name of this package."""

_POSITIONS: MutableMapping[Any, int] = weakref.WeakKeyDictionary()
"""Function `call` of a class -> position of `training`, for a bound call of it."""


def package_of(cls: type) -> str:
    """Return the top-level package that a class was defined in."""
    return cls.__module__.split(".", 1)[0]


def call_parameters(layer: Any) -> Dict[str, inspect.Parameter]:
    """Return the parameters of a layer's `call` by name; empty where they cannot be read."""
    try:
        return dict(inspect.signature(layer.call).parameters)
    except (TypeError, ValueError):
        return {}


def takes_training(model: Any) -> bool:
    """Return whether the `call` of a model or layer has a `training` parameter."""
    return "training" in call_parameters(model)


def training_position(call: Any) -> int:
    """Return the position of `training` among a bound call's parameters, -1 without one."""
    function = getattr(call, "__func__", None)
    owner = getattr(call, "__self__", None)
    # What the class defines stays; what is put on an instance may differ at the next call.
    kept = getattr(type(owner), "call", None) is function
    kept = kept and isinstance(function, types.FunctionType)
    if kept and function in _POSITIONS:
        return _POSITIONS[function]
    try:
        names = list(inspect.signature(call).parameters)
    except (TypeError, ValueError):
        return -1
    position = names.index("training") if "training" in names else -1
    if kept:
        _POSITIONS[function] = position
    return position


def takes_keywords(call: Any) -> bool:
    """Return whether a bound call takes any keyword, as with `**kwargs`."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)


def in_place_of(call: Any, function: Any) -> Any:
    """Return a function as something that stands in for a bound `call` of an object.

    Keras reads the signature to decide what to pass, and TensorFlow, when it saves a model, takes
    `call` to be a method.

    Args:
        call: what it replaces.
        function: takes what the call takes, without `self`.
    """
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):
        return function
    owner = getattr(call, "__self__", None)
    if owner is None:
        function.__signature__ = signature
        return function

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
    parameters += signature.parameters.values()
    method.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return types.MethodType(method, owner)


def has_own_train_step(model: Any, package: str) -> bool:
    """Return whether a user wrote the `train_step` of a model.

    Such a step may use several optimizers, so `model.optimizer` does not describe it.

    Args:
        model: a model.
        package: the import name of its Keras.
    """
    for cls in type(model).__mro__:
        defined = cls.__dict__.get("train_step")
        hooked = not getattr(defined, "replaces_own", True)
        if defined is not None and not hooked and package_of(cls) != OURS:
            return package_of(cls) != package
    return False
