"""The backend of a model is found by its class, and is that of the stack under test."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.backends.known_stacks import PACKAGES
from keras_bnguard.backends.registry import any_backend, backend_for, loaded_backends
from keras_bnguard.errors import UnsupportedModelError
from tests.builders.models import (
    BN,
    transfer,
)
from tests.contract.models import BACKEND_OF
from tests.stack import BACKEND, STACK, VERSION, keras


def test_the_backend_is_that_of_the_stack_under_test():
    assert BACKEND_OF.name == STACK
    assert BACKEND_OF.backend == BACKEND
    assert BACKEND_OF.version == VERSION
    assert backend_for(transfer()) is BACKEND_OF
    assert BACKEND_OF in loaded_backends()
    assert any_backend(BACKEND_OF.package) is BACKEND_OF
    stack = BACKEND_OF.stack
    assert (stack.name, stack.backend, stack.version) == (STACK, BACKEND, VERSION)
    assert stack is BACKEND_OF.stack
    assert BACKEND_OF.graph.is_model(transfer())
    assert not BACKEND_OF.graph.is_model(BN())
    assert BACKEND_OF.graph.is_layer(BN())
    assert not BACKEND_OF.graph.is_layer("bn")


@pytest.mark.parametrize("thing", [None, 1, "x", np.zeros(1), dict])
def test_what_is_no_layer_is_refused(thing):
    with pytest.raises(UnsupportedModelError, match="expected a Keras model or layer"):
        backend_for(thing)


def test_the_keras_of_a_backend_has_the_names_that_the_user_has():
    """Keras 2.12 has a second set, in which optimizers are older."""
    for name in ("Model", "layers.Layer", "optimizers.Optimizer", "optimizers.SGD"):
        ours, theirs = BACKEND_OF.keras, keras
        for part in name.split("."):
            ours, theirs = getattr(ours, part), getattr(theirs, part)
        assert ours is theirs


def test_one_keras_under_two_names_is_one(monkeypatch):
    """`sys.modules["keras"] = tf_keras`, as programs do for old libraries."""
    for package in PACKAGES:
        monkeypatch.setitem(sys.modules, package, sys.modules[BACKEND_OF.package])
    assert loaded_backends() == [BACKEND_OF]
    assert isinstance(bng.BNGuard(), keras.callbacks.Callback)
