"""Choose the adapter by the model in hand; never import a framework to find out."""

from __future__ import annotations

import sys
from typing import Any, Dict, List, Optional

from keras_bnguard.backends.base import Engine
from keras_bnguard.errors import MissingKerasError, UnsupportedModelError

_CACHE: Dict[int, Engine] = {}
_PACKAGES = ("keras", "tf_keras")


def engine_for(model: Any) -> Engine:
    """The adapter of the Keras that `model` (a model or a layer) is built with.

    Raises:
        UnsupportedModelError: `model` is no layer of Keras 2, tf_keras or Keras 3.
    """
    for cls in type(model).__mro__:
        package = cls.__module__.split(".", 1)[0]
        if package in _PACKAGES and package in sys.modules:
            engine = _adapter(sys.modules[package])
            if engine.is_layer(model):
                return engine
    raise UnsupportedModelError(
        f"expected a Keras model or layer, got {type(model).__module__}."
        f"{type(model).__qualname__}. Pass the keras.Model (or tf_keras / tf.keras model) itself."
    )


def loaded_engines() -> List[Engine]:
    """Adapters of every Keras that is imported already, newest first."""
    found = []
    for package in _PACKAGES:
        module = sys.modules.get(package)
        if module is not None and hasattr(module, "layers"):
            found.append(_adapter(module))
    return found


def any_engine(prefer: Optional[str] = None) -> Engine:
    """The adapter of the Keras a user without a model in hand most likely means.

    `prefer` names a package ("keras" or "tf_keras"). Otherwise: the only Keras that is
    imported; with both imported, tf_keras where `TF_USE_LEGACY_KERAS` is set, else keras.
    With none imported, the first that can be.

    Raises:
        MissingKerasError: no Keras can be imported; says what to install.
    """
    import importlib
    import os

    loaded = {engine.package: engine for engine in loaded_engines()}
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


def _adapter(keras: Any) -> Engine:
    """One adapter per imported Keras module, kept for the life of the process."""
    engine = _CACHE.get(id(keras))
    if engine is None:
        version = str(getattr(keras, "__version__", "0"))
        if version.startswith("2."):
            from keras_bnguard.backends.keras2 import Keras2Engine

            engine = Keras2Engine(keras)
        else:
            engine = _keras3_adapter(keras)
        _CACHE[id(keras)] = engine
    return engine


def _keras3_adapter(keras: Any) -> Engine:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from keras_bnguard.backends.keras3_tensorflow import Keras3TensorFlowEngine

        return Keras3TensorFlowEngine(keras)
    if backend == "jax":
        from keras_bnguard.backends.keras3_jax import Keras3JaxEngine

        return Keras3JaxEngine(keras)
    if backend == "torch":
        from keras_bnguard.backends.keras3_torch import Keras3TorchEngine

        return Keras3TorchEngine(keras)
    raise UnsupportedModelError(
        f"Keras {keras.__version__} runs on the {backend!r} backend; keras_bnguard knows "
        "'tensorflow', 'jax' and 'torch'. Set KERAS_BACKEND to one of these."
    )
