"""A request of `force_inference` on one model counts in every model that has its BN, old or new."""

from __future__ import annotations

import gc
import weakref

import pytest

import keras_bnguard as bng
from keras_bnguard.records import Verification
from tests.builders import models
from tests.builders.values import statistics
from tests.stack import keras

layers = keras.layers


def outer_of(base, wrap):
    """A compiled model of another class around `base`."""
    parts = [keras.Input((4,)), base, layers.Dense(1)]
    if wrap == "functional":
        model = models.with_head(base, [layers.Dense(1)])
    elif wrap == "sequential":
        model = keras.Sequential(parts)
    else:
        inner = keras.Sequential(parts[:2])
        model = keras.Sequential([keras.Input((4,)), inner, layers.Dense(1)])
    return models.compiled(model)


wraps = pytest.mark.parametrize("wrap", ["functional", "sequential", "nested twice"])


def moments(base):
    return statistics(base, "bn")


def train(model, how):
    x, y = models.data()
    if how == "fit":
        model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    else:
        model.train_on_batch(x, y)


@wraps
@pytest.mark.parametrize("how", ["fit", "train_on_batch"])
@pytest.mark.parametrize("first", ["request", "model"])
def test_a_model_around_it_forces_its_batch_norm_whichever_was_made_first(wrap, how, first):
    base = models.backbone()
    model = outer_of(base, wrap) if first == "model" else None
    handle = bng.force_inference(base, layers="*")
    model = model or outer_of(base, wrap)
    before = moments(base)
    train(model, how)
    assert moments(base) == before
    handle.release()
    train(model, how)
    assert moments(base) != before


def test_a_model_that_was_trained_before_the_request_joins_it():
    base = models.backbone()
    model = outer_of(base, "sequential")
    train(model, "fit")
    handle, before = bng.force_inference(base, layers="*"), moments(base)
    train(model, "fit")
    assert moments(base) == before
    handle.release()


def test_a_batch_norm_that_the_request_does_not_name_trains_on():
    base = models.backbone(units=(5, 3))
    handle = bng.force_inference(base, layers="bn1")
    model = outer_of(base, "sequential")
    before = [statistics(base, path) for path in ("bn1", "bn2")]
    train(model, "fit")
    after = [statistics(base, path) for path in ("bn1", "bn2")]
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)
    handle.release()


def test_nothing_is_left_on_keras_when_the_last_request_is_closed():
    def owners():
        return {
            (cls, name): cls.__dict__.get(name)
            for cls in (*keras.Model.__mro__, keras.Sequential)
            for name in ("train_step", "make_train_function")
        }

    before = owners()
    base = models.backbone()
    one, other = bng.force_inference(base, layers="*"), bng.force_inference(base)
    train(outer_of(base, "sequential"), "fit")
    one.release()
    assert owners() != before
    other.release()
    assert owners() == before


def test_a_request_keeps_no_model_alive():
    base = models.backbone()
    bng.force_inference(base, layers="*")
    model = outer_of(base, "sequential")
    train(model, "fit")
    seen = weakref.ref(model), weakref.ref(base)
    del base, model
    keras.backend.clear_session()
    gc.collect()
    assert [ref() for ref in seen] == [None, None]


@wraps
@pytest.mark.parametrize("first", ["request", "model"])
def test_what_the_step_of_another_model_shows_is_in_verified(wrap, first):
    base = models.backbone(units=(5, 3))
    model = outer_of(base, wrap) if first == "model" else None
    handle = bng.force_inference(base, layers="bn1")
    model = model or outer_of(base, wrap)
    assert dict(handle.verified) == {"bn1": Verification.NOT_CALLED}
    train(model, "fit")
    assert dict(handle.verified) == {"bn1": Verification.VERIFIED}
    handle.release()
    assert dict(handle.verified) == {"bn1": Verification.VERIFIED}


def test_a_failure_in_the_step_of_another_model_is_in_verified():
    inputs = keras.Input((4,))
    norm = InTraining(name="norm")
    base = keras.Model(inputs, norm(inputs), name="base")
    handle = bng.force_inference(base, layers="norm")
    model = outer_of(base, "sequential")
    with pytest.raises(bng.InferenceNotForcedError, match="InTraining"):
        train(model, "fit")
    assert dict(handle.verified) == {"norm": Verification.FAILED}
    handle.release()


class InTraining(layers.BatchNormalization):
    """Always in training mode."""

    def call(self, inputs):
        return super().call(inputs, training=True)
