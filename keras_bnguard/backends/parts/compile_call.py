"""The call of `compile` that a model had, written as code again."""

from __future__ import annotations

import inspect
from enum import Enum
from typing import Any, Callable, Optional

from keras_bnguard.backends.known_stacks import FRAMEWORKS

Name = Callable[[Any], Optional[str]]
"""Returns an expression for a value in the user's code, None where there is none."""


def compile_arguments(keras: Any, model: Any, name: Name) -> Optional[str]:
    """Return the arguments of `compile` but the optimizer, as code: `loss="mse", metrics=["mae"]`.

    Args:
        keras: the Keras of the model.
        model: a model.
        name: finds values of the user's.

    Returns:
        None where the model was not compiled, where its `compile` is the user's own, and where a
        value cannot be written: a lambda, an object that no variable holds.
    """
    kept = getattr(model, "_compile_config", None)
    config = getattr(kept, "config", None)
    if not isinstance(config, dict) or _is_own(keras, model):
        return None
    texts = []
    for key, value in config.items():
        if key == "optimizer" or _is_default(model, config, key):
            continue
        text = _expression(keras, value, name)
        if text is None:
            return None
        texts.append(f"{key}={text}")
    return ", ".join(texts)


def _is_own(keras: Any, model: Any) -> bool:
    """Whether `compile` is not Keras's."""
    module = str(getattr(type(model).compile, "__module__", ""))
    return module.split(".", 1)[0] not in FRAMEWORKS


def _is_default(model: Any, config: Any, key: str) -> bool:
    value = config[key]
    if key == "jit_compile":
        return value is _jit_by_default(model, config)
    return value is None or (key, value) in (("run_eagerly", False), ("steps_per_execution", 1))


def _jit_by_default(model: Any, config: Any) -> Optional[bool]:
    """What Keras 3 makes of `jit_compile="auto"` for this model; None on Keras 2."""
    resolve = getattr(model, "_resolve_auto_jit_compile", None)
    if resolve is None:
        return None
    return False if config.get("run_eagerly") else bool(resolve())


def _expression(keras: Any, value: Any, name: Name) -> Optional[str]:
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        items = [(_quoted(str(k)), _expression(keras, v, name)) for k, v in value.items()]
        if any(text is None for _, text in items):
            return None
        return "{" + ", ".join(f"{key}: {text}" for key, text in items) + "}"
    if isinstance(value, (list, tuple)):
        texts = [_expression(keras, each, name) for each in value]
        return None if None in texts else "[" + ", ".join(map(str, texts)) + "]"
    return name(value) or _of_keras(keras, value, name)


def _quoted(text: str) -> str:
    return '"' + repr(text)[1:-1].replace('"', '\\"') + '"'


def _of_keras(keras: Any, value: Any, name: Name) -> Optional[str]:
    """`keras.losses.Huber(delta=2.0)`: what Keras itself exports."""
    for place in ("losses", "metrics"):
        exported = getattr(keras, place)
        if inspect.isfunction(value):
            called = str(value.__name__)
            if getattr(exported, called, None) is value:
                return f"keras.{place}.{called}"
        elif getattr(exported, type(value).__name__, None) is type(value):
            return _construction(keras, f"keras.{place}.{type(value).__name__}", value, name)
    return None


def _construction(keras: Any, called: str, value: Any, name: Name) -> Optional[str]:
    known = inspect.signature(type(value).__init__).parameters
    texts, config = [], value.get_config()
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    known_names = {key for key, each in known.items() if each.kind not in free} - {"self", "dtype"}
    if not known_names <= set(config):
        return None  # Keras does not keep it: the delta of Keras 3's Huber.
    for key, setting in config.items():
        default = known[key].default if key in known else setting
        if setting == default or (key == "dtype" and default is None):
            continue
        text = _expression(keras, setting, name)
        if text is None:
            return None
        texts.append(f"{key}={text}")
    return f"{called}({', '.join(texts)})"
