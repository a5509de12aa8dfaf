"""A wrapper around a Keras model is refused with the name of the attribute to pass."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from keras_bnguard.backends.registry import backend_for
from keras_bnguard.errors import UnsupportedModelError


class Model:
    """What `backend_for` sees of a Keras model."""

    __module__ = "keras.src.models.model"


def test_the_error_about_a_wrapper_names_its_module() -> None:
    with pytest.raises(UnsupportedModelError, match=r"pass the model in it, model\.module"):
        backend_for(SimpleNamespace(module=Model()))


def test_other_objects_with_a_module_are_just_no_model() -> None:
    with pytest.raises(UnsupportedModelError, match="expected a Keras model"):
        backend_for(SimpleNamespace(module="text"))
