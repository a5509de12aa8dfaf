"""Forced inference is claimed where it was seen: kinds of BN that are in no list."""

from __future__ import annotations

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.backends.patches.attribute_patches import open_patches
from keras_bnguard.errors import InternalErrorWarning
from keras_bnguard.inference import steps
from keras_bnguard.inference.proof import statistics_of
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.records import Verification
from tests.builders.models import data
from tests.builders.norm_kinds import FORCED, REFUSED, WithDropout, in_graph
from tests.builders.values import as_array
from tests.stack import BACKEND, STACK, keras

# A layer that uses no gamma gets no gradient for it.
pytestmark = pytest.mark.filterwarnings("ignore:Gradients do not exist")


def each(models, *also_traced_before):
    """Each kind forced before its first step, and some after one."""
    return [(kind, False) for kind in models] + [(kind, True) for kind in also_traced_before]


def bits(model):
    handles = take_snapshot(model).handles
    return [as_array(v).tobytes() for handle in handles for v in statistics_of(handle)]


def everything(model):
    return [as_array(v).tobytes() for v in model.weights]


def trained(make):
    """A model whose statistics are no defaults, compiled to train nothing."""
    model = make()
    rng = np.random.default_rng(5)
    for handle in take_snapshot(model).handles:
        mean, variance = handle.vectors()[:2]
        backend = take_snapshot(model).backend
        for variable, low, high in ((mean, -1.0, 1.0), (variance, 1.0, 4.0)):
            value = rng.uniform(low, high, tuple(variable.shape)).astype(np.float32)
            backend.values.assign(variable, value)
    settings = {"jit_compile": False} if STACK == "k3-tf" else {}
    model.compile(keras.optimizers.SGD(0.0), "mse", **settings)
    return model


def loss_of_step(model, x, y):
    return float(np.ravel(model.train_on_batch(x, y))[0])


def loss_of_inference(model, x, y):
    """In a block, as some kinds use batch statistics in `predict`, too."""
    with bng.force_inference(model, layers="*"):
        return float(np.mean((model.predict(x, verbose=0) - y) ** 2))


def test_a_plain_bn_has_that_loss_in_a_plain_prediction():
    model, (x, y) = trained(FORCED["keras"]), data(12)
    plain = float(np.mean((model.predict(x, verbose=0) - y) ** 2))
    assert loss_of_inference(model, x, y) == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize(("kind", "traced_before"), each(FORCED, "keras", "keywords", "inside"))
def test_statistics_keep_their_bits_and_outputs_are_those_of_inference(kind, traced_before):
    model, (x, y) = trained(FORCED[kind]), data(12)
    if traced_before:
        model.train_on_batch(x, y)
    before = bits(model)
    handle = bng.force_inference(model, layers="*")
    loss = loss_of_step(model, x, y)
    model.fit(x, y, batch_size=4, verbose=0)
    assert bits(model) == before
    assert loss == pytest.approx(loss_of_inference(model, x, y), rel=1e-4)
    assert set(handle.verified.values()) == {Verification.VERIFIED}
    handle.release()
    assert open_patches() == 0


@pytest.mark.parametrize(("kind", "traced_before"), each(REFUSED, "always_training", "fold"))
def test_what_cannot_be_forced_ends_training_with_its_name_and_changes_nothing(kind, traced_before):
    model, (x, y) = trained(REFUSED[kind]), data(12)
    if traced_before:
        model.train_on_batch(x, y)
    before = everything(model)
    handle = bng.force_inference(model, layers="*")
    (path,) = handle.paths
    with pytest.raises(bng.InferenceNotForcedError) as raised:
        model.fit(x, y, batch_size=4, verbose=0)
    assert str(raised.value).startswith(f"{path} (")
    assert everything(model) == before
    assert handle.verified == {path: Verification.FAILED}
    handle.release()
    assert open_patches() == 0
    model.fit(x, y, batch_size=4, verbose=0)


@pytest.mark.parametrize("kind", ["always_training", "updates_always", "kept_call", "fold"])
def test_failures_can_be_warnings(kind):
    model, (x, y) = trained(REFUSED[kind]), data(12)
    handle = bng.force_inference(model, layers="*", on_failure="warn")
    with pytest.warns(bng.BNGuardWarning) as found:
        model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    assert len([w for w in found if issubclass(w.category, bng.BNGuardWarning)]) == 1
    assert set(handle.verified.values()) == {Verification.FAILED}


def test_a_block_with_dropout_is_no_fault():
    model, (x, y) = trained(lambda: in_graph(WithDropout(name="inside"))), data(12)
    before = bits(model)
    handle = bng.force_inference(model, layers="*")
    model.fit(x, y, batch_size=4, verbose=0)
    assert bits(model) == before
    assert Verification.FAILED not in handle.verified.values()


def test_steps_after_the_first_three_are_not_compared():
    model, (x, y) = trained(FORCED["keras"]), data(12)
    bng.force_inference(model, layers="*")
    own = None
    for _ in range(4):
        model.train_on_batch(x, y)
        compared = hasattr(model.train_function, "compares_steps")
        own = model.train_function
    assert not compared
    model.train_on_batch(x, y)
    assert model.train_function is own


def test_a_step_that_assigns_statistics_itself_is_refused_and_they_are_restored():
    model, (x, y) = trained(FORCED["keras"]), data(12)
    norm = next(handle.layer for handle in take_snapshot(model).handles)
    own = model.train_step

    def train_step(*args, **kwargs):
        result = own(*args, **kwargs)
        norm.moving_mean.assign(norm.moving_mean * 0.5)
        return result

    if BACKEND == "jax":
        return  # Its step returns the state, so nothing assigned after it counts.
    object.__setattr__(model, "train_step", train_step)
    before = bits(model)
    bng.force_inference(model, layers="*")
    with pytest.raises(bng.InferenceNotForcedError, match="something else in the step"):
        model.train_on_batch(x, y)
    assert bits(model) == before


def test_the_refusal_is_an_error_of_this_package_and_settings_are_checked():
    assert issubclass(bng.InferenceNotForcedError, bng.BNGuardError)
    with pytest.raises(bng.SettingError, match="on_failure='stop'"):
        bng.force_inference(FORCED["keras"](), on_failure="stop")


def test_an_internal_error_in_a_step_leaves_the_training_as_it_would_be(monkeypatch):
    def broken(model):
        raise ZeroDivisionError("inside a step")

    plain, model, (x, y) = trained(FORCED["keras"]), trained(FORCED["keras"]), data(12)
    plain.set_weights(model.get_weights())
    plain.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    handle = bng.force_inference(model, layers="*")
    monkeypatch.setattr(steps, "take_snapshot", broken)
    with pytest.warns(InternalErrorWarning, match="inside a step") as caught:
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    assert [w.category for w in caught].count(InternalErrorWarning) == 1
    assert everything(model) == everything(plain)
    assert open_patches() == 0
    monkeypatch.undo()
    assert Verification.VERIFIED not in handle.verified.values()
