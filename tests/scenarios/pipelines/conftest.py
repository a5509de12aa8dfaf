"""After every pipeline, nothing of the guard may be left on the Keras under test."""

from __future__ import annotations

import gc
from typing import Iterator

import pytest

from keras_bnguard.backends.patches import model_hooks
from keras_bnguard.backends.patches.attribute_patches import open_patches
from tests.stack import keras


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    layer, model = keras.layers.Layer, keras.Model
    before = (
        layer.__dict__["trainable"],
        layer.__call__,
        model.__dict__.get("compile"),
        model.compile,
        model.__setattr__,
    )
    yield
    gc.collect()
    after = (
        layer.__dict__["trainable"],
        layer.__call__,
        model.__dict__.get("compile"),
        model.compile,
        model.__setattr__,
    )
    assert all(a is b for a, b in zip(before, after)), (before, after)
    assert not model_hooks._HOOKS
    assert open_patches() == 0
