"""The optimizer interface: a re-created optimizer carries state, learning rate and settings."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from keras_bnguard.backends.optimizers.renewal import fresh_optimizer, learning_rate_function
from tests.builders.models import BN, adam, compiled, data, layers, transfer
from tests.builders.values import as_array
from tests.contract.models import BACKEND_OF, KERAS2, fit
from tests.stack import IS_KERAS3, STACK, keras


def make(name):
    """Optimizers to carry state of, by a name."""
    o = keras.optimizers
    known = {
        "adam": lambda: o.Adam(0.01),
        "momentum": lambda: o.SGD(0.01, momentum=0.9),
        "rmsprop": lambda: o.RMSprop(0.01, momentum=0.5, centered=True),
        "adamw": lambda: o.AdamW(0.01, weight_decay=0.01),
        "ema": lambda: o.SGD(0.01, use_ema=True, ema_momentum=0.5),
        "amsgrad": lambda: o.Adam(0.01, amsgrad=True),
    }
    if KERAS2:
        known["legacy adam"] = lambda: o.legacy.Adam(0.01)
        known["loss scale"] = lambda: keras.mixed_precision.LossScaleOptimizer(o.Adam(0.01))
    else:
        known["loss scale"] = lambda: o.LossScaleOptimizer(o.Adam(0.01), initial_scale=8.0)
        known["accumulated"] = lambda: o.Adam(0.01, gradient_accumulation_steps=4)
    if STACK == "k2":

        def addons():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import tensorflow_addons

                return tensorflow_addons.optimizers.AdamW(weight_decay=0.01, learning_rate=0.01)

        known["addons adamw"] = addons
    return known[name]() if name else list(known)


def state_by_variable(model):
    """name of the variable -> values of its state variables, by the optimizer's own naming."""
    optimizer = getattr(model.optimizer, "inner_optimizer", None) or model.optimizer
    found = {}
    if hasattr(optimizer, "get_slot") and hasattr(optimizer, "get_slot_names"):
        for variable in model.trainable_variables:
            names = optimizer.get_slot_names()
            values = [optimizer.get_slot(variable, n) for n in names]
            found[id(variable)] = [v.numpy().tobytes() for v in values]
        return found
    known = getattr(optimizer, "_trainable_variables", None)
    if KERAS2:
        index = optimizer._index_dict
        known = sorted(
            (v for v in model.trainable_variables if optimizer._var_key(v) in index),
            key=lambda v: index[optimizer._var_key(v)],
        )
        positions = [index[optimizer._var_key(v)] for v in known]
    else:
        positions = range(len(known))
    lists = [
        value
        for name, value in sorted(vars(optimizer).items())
        if isinstance(value, (list, tuple))
        and len(value)
        and name not in ("_trainable_variables", "_variables")
        and all(v is None or hasattr(v, "assign") for v in value)
        and len(value) >= len(positions)
    ]
    for position, variable in zip(positions, known):
        found[id(variable)] = [
            as_array(value[position]).tobytes()
            for value in lists
            if value[position] is not None and tuple(value[position].shape) == tuple(variable.shape)
        ]
    return found


@pytest.mark.parametrize("name", make(None))
def test_state_of_variables_that_go_on_training_is_carried_bit_for_bit(name):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="a"), BN(name="bn"), layers.Dense(1, name="b")]
    )
    model.get_layer("a").trainable = False
    compiled(model, make(name))
    x, y = data(16)
    model.fit(x, y, batch_size=4, epochs=1, verbose=0)
    old, steps = state_by_variable(model), BACKEND_OF.optimizer.iterations(model)
    scale = loss_scale(model.optimizer)
    assert old
    assert any(any(np.frombuffer(v, np.uint8).any() for v in values) for values in old.values())
    model.get_layer("a").trainable = True
    model.get_layer("bn").trainable = False
    BACKEND_OF.optimizer.renew(model)
    BACKEND_OF.flags.remember_compiled(model)
    BACKEND_OF.step.rebuild_train_function(model)
    new = state_by_variable(model)
    for variable in model.get_layer("b").trainable_variables:
        assert new[id(variable)] == old[id(variable)]
    assert BACKEND_OF.optimizer.iterations(model) == steps > 0
    assert loss_scale(model.optimizer) == scale
    facts = BACKEND_OF.optimizer.facts(model)
    assert facts.unknown == ()
    before = model.get_layer("a").get_weights()[0].copy()
    still = [w.tobytes() for w in model.get_layer("bn").get_weights()]
    model.fit(x, y, batch_size=4, epochs=1, verbose=0)
    assert not np.array_equal(before, model.get_layer("a").get_weights()[0])
    assert [w.tobytes() for w in model.get_layer("bn").get_weights()] == still


def loss_scale(optimizer):
    if hasattr(optimizer, "dynamic_scale"):
        return float(as_array(optimizer.dynamic_scale)), int(as_array(optimizer.step_counter))
    scale = getattr(optimizer, "_loss_scale", None)
    return None if scale is None else float(as_array(scale._current_loss_scale))


def test_without_carry_all_optimizer_state_is_new():
    model = fit(compiled(transfer(), adam()))
    carried, fresh = BACKEND_OF.optimizer.renew(model, carry=False)
    assert (carried, fresh) == (0, len(model.trainable_variables))
    assert BACKEND_OF.optimizer.iterations(model) == 0
    assert not any(
        np.frombuffer(v, np.uint8).any() for s in state_by_variable(model).values() for v in s
    )


def test_a_changed_learning_rate_goes_over():
    model = fit(compiled(transfer(), adam()))
    if KERAS2:
        keras.backend.set_value(model.optimizer.learning_rate, 0.125)
    else:
        model.optimizer.learning_rate = 0.125
    BACKEND_OF.optimizer.renew(model)
    assert float(as_array(model.optimizer.learning_rate)) == 0.125


def test_facts_list_the_variables_an_optimizer_was_not_built_for():
    assert BACKEND_OF.optimizer.facts(transfer()) is None
    model = compiled(transfer(), adam())
    head = model.get_layer("head_bn")
    head.trainable = False
    compiled(model, adam())
    fit(model)
    facts = BACKEND_OF.optimizer.facts(model)
    assert (facts.class_name, facts.built, facts.iterations) == ("Adam", True, 2)
    assert facts.unknown == facts.stale == ()
    head.trainable = True
    model.get_layer("out").trainable = False
    facts = BACKEND_OF.optimizer.facts(model)
    assert sorted(name.rsplit("/", 1)[-1] for name in facts.unknown) == ["beta", "gamma"]
    if IS_KERAS3:
        assert sorted(name.rsplit("/", 1)[-1] for name in facts.stale) == ["bias", "kernel"]


def test_an_optimizer_whose_config_takes_no_plain_number_keeps_its_schedule():
    """As all of Keras 3.3 to 3.6: a learning rate is a schedule, a variable or a function."""

    class Strict(keras.optimizers.SGD):
        def get_config(self):
            assert callable(self._learning_rate) or hasattr(self._learning_rate, "assign")
            return super().get_config()

    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.5)
    old = Strict(schedule)
    new = fresh_optimizer(old)
    assert type(new) is Strict
    assert learning_rate_function(new) is learning_rate_function(old) is schedule
