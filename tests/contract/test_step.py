"""The step interface: the train function."""

from __future__ import annotations

from tests.builders.models import (
    compiled,
    layers,
    transfer,
)
from tests.contract.models import BACKEND_OF, fit
from tests.stack import keras


def test_a_step_that_ran_is_a_step_that_is_built():
    model = compiled(transfer())
    assert not BACKEND_OF.step.is_built(model)
    assert BACKEND_OF.optimizer.iterations(model) == 0
    fit(model)
    assert BACKEND_OF.step.is_built(model)
    assert BACKEND_OF.optimizer.iterations(model) == 2
    assert BACKEND_OF.step.has_train_function(model)
    BACKEND_OF.step.drop_train_function(model)
    assert not BACKEND_OF.step.has_train_function(model)
    BACKEND_OF.step.rebuild_train_function(model)
    assert BACKEND_OF.step.has_train_function(model)
    assert BACKEND_OF.optimizer.iterations(keras.Sequential([layers.Dense(1)])) == 0
