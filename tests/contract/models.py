"""What the contract tests share: the backend under test, and small trained models."""

from __future__ import annotations

from typing import Any

from keras_bnguard.backends.registry import backend_for
from tests.builders.models import data, layers
from tests.stack import IS_KERAS3

KERAS2 = not IS_KERAS3
BACKEND_OF = backend_for(layers.Dense(1))
"""The backend under test."""


def fit(model: Any, epochs: int = 1, **settings: Any) -> Any:
    """The model after a short `fit` of two steps an epoch."""
    x, y = data(16)
    model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, **settings)
    return model


def built(layer: Any, width: int = 3) -> Any:
    """The layer with its weights."""
    layer.build((None, width))
    return layer
