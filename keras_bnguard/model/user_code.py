"""Reads the user's own code around a model: what its variables are called, and how to reach layers.

Nothing is run and nothing is kept: names are compared by identity.
"""

from __future__ import annotations

import re
from types import FrameType
from typing import Any, Dict, Iterator, List, Optional, Tuple

from keras_bnguard.backends.base import Backend
from keras_bnguard.backends.call_stack import user_frame, variables_of
from keras_bnguard.backends.known_stacks import import_statement
from keras_bnguard.backends.parts.compile_call import compile_arguments
from keras_bnguard.backends.patches.fit_scope import fit_data
from keras_bnguard.records import UserCode


def read_user_code(backend: Backend, model: Any) -> UserCode:
    """Describe the user's code that trains or audits this model; defaults where it is unknown.

    Args:
        backend: the backend of the model.
        model: a Keras model.
    """
    try:
        return _read(backend, model)
    except Exception:  # objects of the user's that cannot be compared or read
        return UserCode(keras_import=import_statement(backend.name))


def _read(backend: Backend, model: Any) -> UserCode:
    frame = user_frame(backend.package)
    names = {} if frame is None else _names(frame)

    def name(value: Any) -> Optional[str]:
        return names.get(id(value))

    data = fit_data(model)
    x, y = (None, None) if data is None else (_array(names, data.x), _array(names, data.y))
    return UserCode(
        model=name(model) or "model",
        x=x or "x",
        y=y or "y",
        line=None if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}",
        keras_import=import_statement(backend.name),
        compile_arguments=compile_arguments(backend.keras, model, name),
    )


def _array(names: Dict[int, str], value: Any) -> Optional[str]:
    """The name of data, also where `fit` took a part of it for validation."""
    if value is None:
        return None
    return names.get(id(value)) or names.get(id(getattr(value, "base", value)))


def _names(frame: FrameType) -> Dict[int, str]:
    """id -> expression, of the variables that code at this line can use."""
    found: Dict[int, str] = {}
    for name, value in _variables(frame):
        if value is not None and not isinstance(value, (bool, int, float, str)):
            found.setdefault(id(value), name)
    return found


def _variables(frame: FrameType) -> Iterator[Tuple[str, Any]]:
    own = variables_of(frame)
    for name, value in list(own.items()):
        if name.isidentifier() and name != "self":
            yield name, value
    for name, value in list(getattr(own.get("self"), "__dict__", {}).items()):
        if not name.startswith("_"):
            yield f"self.{name}", value
    yield from list(frame.f_globals.items())


class Access:
    """Code that reaches the layers of one model: `.get_layer("base").layer`."""

    def __init__(self) -> None:
        self._by_name: Dict[int, Dict[str, Any]] = {}

    def of(self, parents: List[Any], layer: Any) -> Optional[str]:
        """Return what follows the model to reach a layer.

        Args:
            parents: the model and the layers around the layer, outermost first.
            layer: the layer.

        Returns:
            None where no public name leads to it.
        """
        steps = []
        children: List[Any] = [*parents[1:], layer]
        for parent, child in zip(parents, children):
            step = self._step(parent, child)
            if step is None:
                return None
            steps.append(step)
        return "".join(steps)

    def _step(self, parent: Any, child: Any) -> Optional[str]:
        if callable(getattr(parent, "get_layer", None)):
            if id(parent) not in self._by_name:
                layers: List[Any] = list(parent.layers)[::-1]
                self._by_name[id(parent)] = {str(each.name): each for each in layers}
            same = self._by_name[id(parent)].get(str(child.name))
            if same is not None and same is child:
                return f".get_layer({_string(child.name)})"
        for name, value in vars(parent).items():
            if name.startswith("_"):
                continue
            if value is child:
                return f".{name}"
            inside = _place(value, child)
            if inside is not None:
                return f".{name}{inside}"
        # A wrapper may keep its layer behind a property.
        return ".layer" if getattr(parent, "layer", None) is child else None


def _place(value: Any, child: Any) -> Optional[str]:
    if isinstance(value, (list, tuple)):
        return next((f"[{i}]" for i, each in enumerate(value) if each is child), None)
    if isinstance(value, dict):
        keys = (key for key, each in value.items() if each is child and isinstance(key, str))
        return next((f"[{_string(key)}]" for key in keys), None)
    return None


def _string(text: str) -> str:
    plain = re.fullmatch(r"[^\\\"\x00-\x1f\x7f-\x9f]*", text)
    return f'"{text}"' if plain else repr(text)
