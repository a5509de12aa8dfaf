"""Whatever training step runs, its BN are forced: bases, subclasses, other models, layers that are
built in the step, copies."""

from __future__ import annotations

import copy
import gc
import weakref

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.backends.patches.method_hooks import MethodHook
from keras_bnguard.model.forced_inference import forces_in_step
from tests.builders.models import BN, Net, backbone, data, layers, sgd
from tests.builders.values import statistics
from tests.stack import IS_KERAS3, keras

Mixin = bng.GuardedTrainStep


class MixinFirst(Mixin, keras.Model):
    pass


class MixinLast(keras.Model, Mixin):
    pass


class OwnStep(MixinFirst):
    """A step of its own that calls Keras's by name, not `super()`."""

    def train_step(self, *args, **kwargs):
        return keras.Model.train_step(self, *args, **kwargs)


class OwnStepWithSuper(MixinFirst):
    def train_step(self, *args, **kwargs):
        return super().train_step(*args, **kwargs)


class Below(OwnStep):
    pass


class Registering(type(keras.Model)):
    """A metaclass of the user's that changes nothing."""

    def __new__(mcs, name, bases, namespace, **kwargs):
        return super().__new__(mcs, name, bases, namespace, **kwargs)


class WithMetaclass(keras.Model, Mixin, metaclass=Registering):
    pass


class AssignedLater(MixinFirst):
    pass


AssignedLater.train_step = OwnStep.__dict__["train_step"]._own

CLASSES = [
    MixinFirst,
    MixinLast,
    OwnStep,
    OwnStepWithSuper,
    Below,
    WithMetaclass,
    AssignedLater,
]


def functional(cls):
    inputs = keras.Input((4,))
    inner = backbone()
    outputs = layers.Dense(1)(BN(name="head_bn")(inner(inputs)))
    model = cls(inputs, outputs)
    inner.trainable = False
    inner.get_layer("bn").trainable = True
    return model, inner.get_layer("bn"), model.get_layer("head_bn")


def changed(model, *norms, **settings):
    before = [statistics(norm) for norm in norms]
    model.fit(*data(24), batch_size=8, verbose=0, **settings)
    return [statistics(norm) != old for norm, old in zip(norms, before)]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_place_of_the_mixin_and_steps_below_it_do_not_matter(cls):
    model, frozen, head = functional(cls)
    model.compile(sgd(), "mse")
    assert changed(model, frozen, head) == [False, True]


@pytest.mark.parametrize("cls", [keras.Model, *CLASSES], ids=lambda cls: cls.__name__)
def test_a_handle_forces_on_every_class_and_leaves_the_class_as_it_was(cls):
    model, frozen, head = functional(cls)
    before = dict(type(model).__dict__)
    model.compile(sgd(), "mse")
    handle = bng.force_inference(model, layers="*")
    assert changed(model, frozen, head) == [False, False]
    handle.release()
    after = dict(type(model).__dict__)
    assert {k: v for k, v in after.items() if isinstance(v, MethodHook)} == {
        k: v for k, v in before.items() if isinstance(v, MethodHook)
    } or cls is AssignedLater
    assert changed(model, head) == [True]


def test_a_step_that_is_assigned_to_the_model_is_forced_before_and_after():
    model, frozen, _ = functional(keras.Model)
    own = model.train_step

    def first(*args, **kwargs):
        return own(*args, **kwargs)

    def second(*args, **kwargs):
        return first(*args, **kwargs)

    object.__setattr__(model, "train_step", first)
    handle = bng.force_inference(model)
    model.compile(sgd(), "mse")
    assert changed(model, frozen) == [False]
    object.__setattr__(model, "train_step", second)
    model.compile(sgd(), "mse")
    assert changed(model, frozen) == [False]
    handle.release()
    assert vars(model)["train_step"] is second


# ----------------------------------------------------------------- other models
def outer_model(inner):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(1)(inner(inputs)))
    model.compile(sgd(), "mse")
    return model


@pytest.mark.parametrize("trained_before", [False, True])
def test_a_block_of_a_sub_model_forces_in_the_fit_of_the_outer_one_and_only_then(trained_before):
    inner = backbone()
    outer, norm = outer_model(inner), inner.get_layer("bn")
    if trained_before:
        assert changed(outer, norm) == [True]
    with bng.force_inference(inner, layers="*"):
        assert changed(outer, norm) == [False]
    assert changed(outer, norm) == [True]


def test_a_handle_of_a_sub_model_forces_in_the_fit_of_the_outer_one():
    inner = backbone()
    outer, norm = outer_model(inner), inner.get_layer("bn")
    assert changed(outer, norm) == [True]
    handle = bng.force_inference(inner, layers="*")
    assert changed(outer, norm) == [False]
    handle.release()
    assert changed(outer, norm) == [True]


def test_layers_that_two_models_share_are_forced_in_both():
    inputs = keras.Input((4,))
    norm = BN(name="bn")
    features = norm(layers.Dense(5)(inputs))
    extractor = keras.Model(inputs, features)
    classifier = keras.Model(inputs, layers.Dense(1)(features))
    classifier.compile(sgd(), "mse")
    assert changed(classifier, norm) == [True]
    with bng.force_inference(extractor, layers="*"):
        assert changed(classifier, norm) == [False]
    assert changed(classifier, norm) == [True]


def test_a_model_that_contains_a_forced_one_is_freed():
    inner = backbone()
    outer = outer_model(inner)
    handle = bng.force_inference(inner, layers="*")
    changed(outer)
    dead = weakref.ref(outer)
    del outer
    keras.backend.clear_session()
    gc.collect()
    assert dead() is None
    handle.release()


# ------------------------------------------------------- layers built in the step
class MakesNorm(layers.Layer):
    """Its BN is made in `build`, as many layers of libraries do."""

    def build(self, shape):
        self.bn = BN(name="bn")
        self.bn.build(shape)
        self.built = True

    def call(self, x, training=None):
        return self.bn(x, training=training)

    def compute_output_shape(self, shape):
        return shape


class Lazy(keras.Model):
    def __init__(self):
        super().__init__()
        self.block = MakesNorm()
        self.out = layers.Dense(1)

    def call(self, x, training=None):
        return self.out(self.block(x, training=training))


class LazyMixin(Mixin, Lazy):
    pass


@pytest.mark.parametrize("built", [True, False], ids=["built", "unbuilt"])
@pytest.mark.parametrize("how", ["mixin", "frozen", "selected"])
@pytest.mark.parametrize("eager", [False, True], ids=["graph", "eager"])
def test_bn_made_while_the_first_step_is_traced_are_forced_in_it(built, how, eager):
    model = LazyMixin() if how == "mixin" else Lazy()
    if built:
        model(data(8)[0])
    if how != "selected":
        model.block.trainable = False
    model.compile(sgd(), "mse", run_eagerly=eager)
    if how != "mixin":
        bng.force_inference(model, layers="*bn*" if how == "selected" else None)
    model.fit(*data(24), batch_size=8, verbose=0, epochs=2)
    mean, variance = (np.frombuffer(s, np.float32) for s in statistics(model.block.bn))
    assert not mean.any()
    assert (variance == 1).all()
    assert changed(model, model.block.bn, epochs=2) == [False]


# ----------------------------------------------------------------------- copies
@pytest.mark.parametrize("copied_by", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_a_copy_of_an_unbuilt_forced_model_trains_itself(copied_by):
    model = Net()
    bng.force_inference(model)
    try:
        copied = copied_by(model)
    except TypeError:
        assert IS_KERAS3  # Its layers hold thread locals before they are built.
        return
    assert not forces_in_step(copied)
    copied.compile(sgd(), "mse")
    copied.fit(*data(8), verbose=0)
    if copied_by is copy.deepcopy:
        assert not model.one.built
    assert copied.optimizer is not None
