"""Choose the adapter by the model in hand; never import a framework to find out."""

from __future__ import annotations

import sys
from typing import Any, Dict, List, Optional

from keras_bnguard.backends.base import Backend
from keras_bnguard.errors import MissingKerasError, UnsupportedModelError

_CACHE: Dict[int, Backend] = {}
_PACKAGES = ("keras", "tf_keras")


def backend_for(model: Any) -> Backend:
    """The adapter of the Keras that `model` (a model or a layer) is built with.

    Raises:
        UnsupportedModelError: `model` is no layer of Keras 2, tf_keras or Keras 3.
    """
    for cls in type(model).__mro__:
        package = cls.__module__.split(".", 1)[0]
        if package in _PACKAGES and package in sys.modules:
            backend = _adapter(sys.modules[package])
            if backend.is_layer(model):
                return backend
    raise UnsupportedModelError(
        f"expected a Keras model or layer, got {type(model).__module__}."
        f"{type(model).__qualname__}. Pass the keras.Model (or tf_keras / tf.keras model) itself."
    )


def loaded_backends() -> List[Backend]:
    """Adapters of every Keras that is imported already, newest first."""
    found = []
    for package in _PACKAGES:
        module = sys.modules.get(package)
        if module is not None and hasattr(module, "layers"):
            found.append(_adapter(module))
    return found


def any_backend(prefer: Optional[str] = None) -> Backend:
    """The adapter of the Keras a user without a model in hand most likely means.

    `prefer` names a package ("keras" or "tf_keras"). Otherwise: the only Keras that is
    imported; with both imported, tf_keras where `TF_USE_LEGACY_KERAS` is set, else keras.
    With none imported, the first that can be.

    Raises:
        MissingKerasError: no Keras can be imported; says what to install.
    """
    import importlib
    import os

    loaded = {backend.package: backend for backend in loaded_backends()}
    legacy = os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true")
    order = [prefer] if prefer else (["tf_keras", "keras"] if legacy else ["keras", "tf_keras"])
    for package in order:
        if package in loaded:
            return loaded[package]
    if loaded and not prefer:
        return next(iter(loaded.values()))
    problems = []
    for package in order:
        try:
            return _adapter(importlib.import_module(str(package)))
        except ImportError as error:
            problems.append(f"{package}: {error}")
    raise MissingKerasError(
        "keras_bnguard needs a Keras and found none that imports "
        f"({'; '.join(problems)}). Install one: pip install 'keras_bnguard[tensorflow]', "
        "'keras_bnguard[jax]', 'keras_bnguard[torch]' or 'keras_bnguard[tf-keras]'."
    )


def _adapter(keras: Any) -> Backend:
    """One adapter per imported Keras module, kept for the life of the process."""
    backend = _CACHE.get(id(keras))
    if backend is None:
        version = str(getattr(keras, "__version__", "0"))
        if version.startswith("2."):
            from keras_bnguard.backends.keras2 import Keras2Backend

            backend = Keras2Backend(keras)
        else:
            backend = _keras3_adapter(keras)
        _CACHE[id(keras)] = backend
    return backend


def _keras3_adapter(keras: Any) -> Backend:
    backend_name = keras.backend.backend()
    if backend_name == "tensorflow":
        from keras_bnguard.backends.keras3_tensorflow import Keras3TensorFlowBackend

        return Keras3TensorFlowBackend(keras)
    if backend_name == "jax":
        from keras_bnguard.backends.keras3_jax import Keras3JaxBackend

        return Keras3JaxBackend(keras)
    if backend_name == "torch":
        from keras_bnguard.backends.keras3_torch import Keras3TorchBackend

        return Keras3TorchBackend(keras)
    raise UnsupportedModelError(
        f"Keras {keras.__version__} runs on the {backend_name!r} backend; keras_bnguard knows "
        "'tensorflow', 'jax' and 'torch'. Set KERAS_BACKEND to one of these."
    )
