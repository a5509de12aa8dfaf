"""Choose the backend by the model in hand; never import a framework to find out."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Dict, List, Optional

from keras_bnguard.backends.base import Backend, assemble
from keras_bnguard.backends.known_stacks import KNOWN_STACKS, PACKAGES
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
    raise UnsupportedModelError(
        f"expected a Keras model or layer, got {type(model).__module__}."
        f"{type(model).__qualname__}. Pass the keras.Model (or tf_keras / tf.keras model) itself."
    )


def loaded_backends() -> List[Backend]:
    """Return the backends of every Keras that is imported, in the order of `PACKAGES`."""
    found = []
    for package in PACKAGES:
        module = sys.modules.get(package)
        if module is not None and hasattr(module, "layers"):
            found.append(_backend_of(module))
    return found


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
    package = str(keras.__name__).split(".", 1)[0]
    generation = 2 if str(getattr(keras, "__version__", "0")).startswith("2.") else 3
    running = keras.backend.backend()
    same_keras = [k for k in KNOWN_STACKS if (k.package, k.generation) == (package, generation)]
    for known in same_keras:
        if known.backend == running:
            adapter = importlib.import_module(f"{__package__}.adapters.{known.adapter}")
            return assemble(keras, known.name, known.backend, adapter.PARTS)
    raise UnsupportedModelError(
        f"Keras {keras.__version__} runs on the {running!r} backend; keras_bnguard knows "
        f"{', '.join(repr(k.backend) for k in same_keras)}. Set KERAS_BACKEND to one of these."
    )
