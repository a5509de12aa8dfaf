"""The step interface: the train function."""

from __future__ import annotations

import pytest

from tests.builders.models import (
    compiled,
    layers,
    transfer,
)
from tests.contract.models import BACKEND_OF, fit
from tests.stack import STACK, keras


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


@pytest.mark.skipif(STACK != "k3-jax", reason="only JAX places the values of a step")
def test_a_rebuilt_step_has_its_values_placed_in_its_own_order():
    model = fit(compiled(transfer()))
    recorded = []

    def record():  # Of Keras 3.3 to 3.11.
        recorded.append(len(model.trainable_variables))

    object.__setattr__(model, "_record_training_state_sharding_spec", record)
    model.get_layer("head_bn").trainable = False
    BACKEND_OF.step.rebuild_train_function(model)
    assert recorded == [len(model.trainable_variables)]
