"""A Keras that is too old, or runs on an unknown backend, is refused in one sentence."""

from __future__ import annotations

import sys
import types

import pytest

from keras_bnguard.backends.registry import (
    any_backend,
    backend_for,
    loaded_backends,
    unsupported_kerases,
)
from keras_bnguard.errors import UnsupportedModelError

OLD = [
    ("keras", "3.2.1", "tensorflow", "keras 3.2.1 is too old", "keras 3.3 and later"),
    ("keras", "3.0.0", "jax", "keras 3.0.0 is too old", "pip install -U keras"),
    ("keras", "2.11.0", "tensorflow", "keras 2.11.0 is too old", "pip install -U tensorflow"),
    ("tf_keras", "2.14.1", "tensorflow", "tf_keras 2.14.1 is too old", "pip install -U tf_keras"),
    ("keras", "3.15.1", "numpy", "'numpy' backend", "Set KERAS_BACKEND"),
]


def only(monkeypatch, package, version, backend):
    """No Keras is imported but this one, which is a name and a version."""
    module = types.ModuleType(package)
    module.__version__ = version
    module.layers = types.ModuleType(f"{package}.layers")
    module.backend = types.SimpleNamespace(backend=lambda: backend)
    for name in ("keras", "tf_keras"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, module)
    return module


@pytest.mark.parametrize(("package", "version", "backend", "what", "do"), OLD)
def test_a_keras_that_does_not_work_is_named_with_what_to_do(
    package, version, backend, what, do, monkeypatch
):
    only(monkeypatch, package, version, backend)
    model = type("Model", (), {"__module__": f"{package}.src.models"})()
    errors = [unsupported_kerases()[package]]
    for ask in (lambda: backend_for(model), lambda: any_backend(package)):
        with pytest.raises(UnsupportedModelError) as raised:
            ask()
        errors.append(raised.value)
    for error in errors:
        assert what in str(error)
        assert do in str(error)
    assert loaded_backends() == []
