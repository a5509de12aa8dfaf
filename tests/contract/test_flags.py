"""The flags interface: those of now, at `compile()`, and pending."""

from __future__ import annotations

import pytest

from tests.builders.models import (
    backbone,
    compiled,
    transfer,
)
from tests.contract.models import BACKEND_OF, KERAS2, fit
from tests.stack import IS_KERAS3, keras


def test_the_own_flag_is_set_and_nothing_below():
    base = backbone()
    BACKEND_OF.flags.set_own(base, False)
    assert base.trainable is False
    assert base.get_layer("bn").trainable is True
    bn = base.get_layer("bn")
    BACKEND_OF.flags.set_own(bn, False)
    assert len(bn.trainable_variables) == 0
    BACKEND_OF.flags.set_own(base, True)
    assert bn.trainable is False
    BACKEND_OF.flags.set_own(bn, True)
    assert len(bn.trainable_variables) == 2


def test_compiled_and_pending_flags():
    model = compiled(transfer())
    head = model.get_layer("head_bn")
    head.trainable = False
    flags = BACKEND_OF.flags.compiled(model)
    assert BACKEND_OF.flags.pending(model) == {}
    if flags is None:
        assert IS_KERAS3
    else:
        assert flags[id(head)] is True
    seen = {}

    class Observer(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.update(BACKEND_OF.flags.pending(model))

    if KERAS2:
        fit(model, callbacks=[Observer()])
        assert seen[id(head)] is False
        assert head.trainable is False
        BACKEND_OF.flags.remember_compiled(model)
        assert BACKEND_OF.flags.compiled(model)[id(head)] is False


@pytest.mark.skipif(not IS_KERAS3, reason="Keras 2 always keeps the flags of compile()")
def test_where_keras_keeps_no_flags_of_compile_they_can_be_asked_for_inside_a_step():
    """Keras 3.3 to 3.14 keep none; what stands for them is read from variables."""
    seen = []

    class Asking(keras.Model):
        def train_step(self, *args, **kwargs):
            seen.append(BACKEND_OF.flags.compiled(self))
            return super().train_step(*args, **kwargs)

    net = transfer()
    model = compiled(Asking(net.inputs, net.outputs))
    for _ in range(2):
        vars(model).pop("_compiled_trainable_state", None)
        fit(model)
        BACKEND_OF.step.drop_train_function(model)
    assert len(seen) >= 2
    assert all(flags[id(model.get_layer("head_bn"))] is True for flags in seen)
