"""Choose the backend by the model in hand; never import a framework to find out."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Dict, List, Optional, Tuple, Union

from keras_bnguard.backends.base import Backend, assemble
from keras_bnguard.backends.known_stacks import KNOWN_STACKS, PACKAGES, KnownStack
from keras_bnguard.errors import MissingKerasError, UnsupportedModelError

_BACKENDS: Dict[int, Backend] = {}
"""id of a Keras module -> its backend, kept for the life of the process."""


def backend_for(model: Any) -> Backend:
    """Return the backend that a model is built with.

    Args:
        model: a model or a layer.

    Raises:
        UnsupportedModelError: it is no layer of Keras 2, tf_keras or Keras 3.
    """
    for cls in type(model).__mro__:
        package = cls.__module__.split(".", 1)[0]
        if package in PACKAGES and package in sys.modules:
            backend = _backend_of(sys.modules[package])
            if backend.graph.is_layer(model):
                return backend
    inner = getattr(model, "module", None)
    if any(base.__module__.split(".", 1)[0] in PACKAGES for base in type(inner).__mro__):
        raise UnsupportedModelError(
            f"{type(model).__qualname__} is a wrapper of a Keras model: pass the model in it, "
            "model.module."
        )
    raise UnsupportedModelError(
        f"model: expected a Keras model or layer, got {type(model).__module__}."
        f"{type(model).__qualname__}. Pass the keras.Model (or tf_keras / tf.keras model) itself."
    )


def loaded_backends() -> List[Backend]:
    """Return the backends of every Keras that is imported, in the order of `PACKAGES`.

    Those that this package does not work with are left out, see `unsupported_kerases`.
    """
    return [_backend_of(module) for module in _imported() if not isinstance(_known(module), str)]


def unsupported_kerases() -> Dict[str, UnsupportedModelError]:
    """Return, for every Keras that is imported and not supported, the error that describes it."""
    found = {str(module.__name__): _known(module) for module in _imported()}
    return {name: UnsupportedModelError(why) for name, why in found.items() if isinstance(why, str)}


def _imported() -> List[Any]:
    modules = {id(module): module for module in map(sys.modules.get, PACKAGES)}
    # Each once: some programs put one Keras under the name of another, for old libraries.
    return [each for each in modules.values() if each is not None and hasattr(each, "layers")]


def any_backend(prefer: Optional[str] = None) -> Backend:
    """Return the backend that a user without a model in hand most likely means.

    Args:
        prefer: the import name of a Keras. Defaults to None: the only Keras that is imported;
            of two, tf_keras where `TF_USE_LEGACY_KERAS` is set, else keras. With none imported,
            the first of these that can be.

    Raises:
        MissingKerasError: no Keras can be imported.
    """
    loaded = {backend.package: backend for backend in loaded_backends()}
    legacy = os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true")
    order = [prefer] if prefer else list(reversed(PACKAGES) if legacy else PACKAGES)
    for package in order:
        if package in loaded:
            return loaded[package]
    if loaded and not prefer:
        return next(iter(loaded.values()))
    problems = []
    for package in order:
        try:
            return _backend_of(importlib.import_module(package))
        except ImportError as error:
            problems.append(f"{package}: {error}")
    raise MissingKerasError(
        "keras_bnguard needs a Keras and found none that imports "
        f"({'; '.join(problems)}). Install one: pip install 'keras_bnguard[tensorflow]', "
        "'keras_bnguard[jax]', 'keras_bnguard[torch]' or 'keras_bnguard[tf-keras]'."
    )


def _backend_of(keras: Any) -> Backend:
    backend = _BACKENDS.get(id(keras))
    if backend is None:
        backend = _BACKENDS[id(keras)] = _assembled(keras)
    return backend


def _assembled(keras: Any) -> Backend:
    known = _known(keras)
    if isinstance(known, str):
        raise UnsupportedModelError(known)
    adapter = importlib.import_module(f"{__package__}.adapters.{known.adapter}")
    return assemble(_public(keras), known.name, known.backend, adapter.PARTS)


def _known(keras: Any) -> Union[KnownStack, str]:
    """The stack that a Keras is, or why it is none."""
    package = str(keras.__name__).split(".", 1)[0]
    version = str(getattr(keras, "__version__", "0"))
    generation = 2 if version.startswith("2.") else 3
    same_keras = [k for k in KNOWN_STACKS if (k.package, k.generation) == (package, generation)]
    for known in same_keras:
        if _number(version) < known.oldest:
            return (
                f"{package} {version} is too old for keras_bnguard, which works with {package} "
                f"{'.'.join(map(str, known.oldest))} and later: pip install -U {known.distribution}"
            )
    running = keras.backend.backend()
    for known in same_keras:
        if known.backend == running:
            return known
    return (
        f"Keras {version} runs on the {running!r} backend; keras_bnguard knows "
        f"{', '.join(repr(k.backend) for k in same_keras)}. Set KERAS_BACKEND to one of these."
    )


def _number(version: str) -> Tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _public(keras: Any) -> Any:
    """The module with the public names: Keras 2.12 has another one besides `keras`, in which
    `optimizers.Optimizer` is that of Keras 1."""
    if _number(str(keras.__version__)) == (2, 12):
        return importlib.import_module(f"{keras.__name__}.api._v2.{keras.__name__}")
    return keras
