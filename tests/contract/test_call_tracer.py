"""The call tracer and the first step record what reaches each BN, and leave nothing behind."""

from __future__ import annotations

import pytest

from keras_bnguard.backends.patches.attribute_patches import open_patches
from keras_bnguard.backends.patches.call_tracer import CallTracer
from keras_bnguard.backends.patches.first_step import FirstStep
from keras_bnguard.backends.patches.inference_mode import ForcedInference
from keras_bnguard.model.snapshot import take_snapshot
from tests.builders.models import backbone, compiled, data, layers, transfer
from tests.builders.values import statistics
from tests.contract.models import BACKEND_OF


def tracer_of(model):
    snapshot = take_snapshot(model)
    return CallTracer(snapshot.backend, model, snapshot.handles, snapshot.paths)


def test_the_call_tracer_records_what_reached_each_bn():
    model = compiled(transfer(training=False))
    call = layers.Layer.__call__
    with tracer_of(model) as tracer:
        model(data(4)[0], training=True)
    assert layers.Layer.__call__ is call
    (base,), (head,) = tracer.sites["base/bn"], tracer.sites["head_bn"]
    honoured = BACKEND_OF.stack.behaviour.graph_false_honoured
    # Where Keras overrides what the graph wrote, it does so before the layer is called.
    assert base.explicit is (False if honoured else None)
    assert base.arrived is not honoured
    assert (head.explicit, head.arrived) == (None, True)
    assert (base.values_per_channel, head.values_per_channel) == (4, 4)
    assert base.flag is True
    assert tracer.barrier.error is None


def test_a_call_tracer_is_removed_after_an_exception_and_two_may_overlap():
    model, other = transfer(), backbone("other")
    call = layers.Layer.__call__
    with pytest.raises(ZeroDivisionError), tracer_of(model):
        raise ZeroDivisionError
    first, second = tracer_of(model), tracer_of(other)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    model(data(4)[0])
    other(data(4)[0])
    second.__exit__(None, None, None)
    assert layers.Layer.__call__ is call
    assert open_patches() == 0
    assert not first.sites
    assert list(second.sites) == ["bn"]


def test_forced_inference_inside_a_call_tracer_works_and_is_recorded():
    model = transfer()
    bn = model.get_layer("base").get_layer("bn")
    for first, second in ((0, 1), (1, 0)):
        tracer, before = tracer_of(model), statistics(bn)
        pair = (tracer, ForcedInference(BACKEND_OF, [bn]))
        with pair[first], pair[second]:
            model(data(4)[0], training=True)
        assert statistics(bn) == before
        assert [site.arrived for site in tracer.sites["base/bn"]] == [False]
        assert open_patches() == 0


def test_the_first_step_is_seen_once_and_the_train_function_is_restored():
    model = compiled(transfer())
    BACKEND_OF.step.rebuild_train_function(model)
    real, seen = model.train_function, []
    step = FirstStep(BACKEND_OF, model, tracer_of(model), lambda: seen.append(model.train_function))
    step.arm()
    assert model.train_function is not real
    step.arm()
    step.disarm()
    assert model.train_function is real
    step.arm()
    x, y = data(8)
    model.train_on_batch(x, y)
    model.train_on_batch(x, y)
    assert seen == [real]
    assert model.train_function is real


def test_a_step_that_raises_leaves_the_real_train_function_and_call():
    model = compiled(transfer())
    call = layers.Layer.__call__

    def fails(*args, **kwargs):
        raise ZeroDivisionError

    model.train_function = fails
    step = FirstStep(BACKEND_OF, model, tracer_of(model), lambda: None)
    step.arm()
    with pytest.raises(ZeroDivisionError):
        model.train_function(None)
    assert model.train_function is fails
    assert layers.Layer.__call__ is call
    assert open_patches() == 0
