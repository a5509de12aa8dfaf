"""Assignments of `trainable`, `compile` and new steps reach listeners; hooks are removed."""

from __future__ import annotations

import os

import pytest

from keras_bnguard.backends.patches import model_hooks
from tests.builders.models import (
    compiled,
    layers,
    sgd,
    transfer,
)
from tests.contract.models import BACKEND_OF, KERAS2, fit
from tests.stack import keras

MAKE = "make_train_function"


class Listener:
    def __init__(self):
        self.trainable_changes, self.before, self.compiles = [], 0, []
        self.trainings, self.faults = [], []

    def before_trainable_change(self, layer):
        self.before += 1

    def after_trainable_change(self, flags, source):
        self.trainable_changes.append((flags, source))

    def after_compile(self, model, source):
        self.compiles.append((model, source))

    def before_training(self, model):
        self.trainings.append(model)

    def failed(self, error):
        self.faults.append(error)


def hooks():
    model = keras.Model.__dict__
    return layers.Layer.__dict__["trainable"], model.get("compile"), model.get(MAKE)


def test_a_listener_gets_an_assignment_of_trainable_once_with_its_line():
    listener, model, before = Listener(), transfer(), hooks()
    model_hooks.start(BACKEND_OF, listener)
    try:
        model.get_layer("base").trainable = False  # this very line
        assert listener.before == 1
        ((flags, source),) = listener.trainable_changes
        assert flags[id(model.get_layer("base").get_layer("bn"))] is False
        file, line = source.rsplit(":", 1)
        assert os.path.samefile(file, __file__)
        with open(__file__, encoding="utf-8") as text:
            assert "this very line" in text.readlines()[int(line) - 1]
        model.compile(sgd(), "mse")
        assert [m is model for m, _ in listener.compiles] == [True]
        assert listener.compiles[0][1].startswith(file)
    finally:
        model_hooks.stop(BACKEND_OF, listener)
    assert all(a is b for a, b in zip(hooks(), before))
    model.get_layer("base").trainable = True
    assert len(listener.trainable_changes) == 1


def test_what_cannot_be_read_after_an_assignment_does_not_reach_the_user(monkeypatch):
    def broken(layer):
        raise RuntimeError("ours")

    listener, model = Listener(), transfer()
    model_hooks.start(BACKEND_OF, listener)
    try:
        monkeypatch.setattr(BACKEND_OF.graph, "all_layers", broken)
        model.get_layer("base").trainable = False
    finally:
        model_hooks.stop(BACKEND_OF, listener)
    assert not model.get_layer("base").trainable
    assert [str(error) for error in listener.faults] == ["ours"]
    assert listener.trainable_changes == []


def test_a_listener_is_called_before_a_new_step_is_made():
    listener, model = Listener(), compiled(transfer())
    model_hooks.start(BACKEND_OF, listener)
    try:
        fit(model)
    finally:
        model_hooks.stop(BACKEND_OF, listener)
    assert listener.trainings
    assert all(each is model for each in listener.trainings)


def test_fit_itself_changes_no_flag_of_the_user():
    listener = Listener()
    model = compiled(transfer())
    model.get_layer("base").trainable = False
    model_hooks.start(BACKEND_OF, listener)
    try:
        model.get_layer("out").trainable = False
        heard = len(listener.trainable_changes)
        if KERAS2:
            fit(model)
        assert len(listener.trainable_changes) == heard == 1
    finally:
        model_hooks.stop(BACKEND_OF, listener)


def test_the_last_listener_to_stop_restores_the_very_same_objects():
    before, listeners = hooks(), [Listener(), Listener()]
    for listener in listeners:
        model_hooks.start(BACKEND_OF, listener)
    model_hooks.stop(BACKEND_OF, listeners[0])
    assert hooks()[0] is not before[0]
    model_hooks.stop(BACKEND_OF, listeners[0])
    layers.Dense(1).trainable = False
    assert [len(listener.trainable_changes) for listener in listeners] == [0, 1]
    model_hooks.stop(BACKEND_OF, listeners[1])
    assert all(a is b for a, b in zip(hooks(), before))
    model_hooks.stop(BACKEND_OF, listeners[1])


def test_a_setter_that_raises_still_raises_and_later_changes_are_reported():
    class Moody(layers.Layer):
        @property
        def trainable(self):
            return True

        @trainable.setter
        def trainable(self, value):
            raise RuntimeError("no")

    listener = Listener()
    model_hooks.start(BACKEND_OF, listener)
    try:
        dense = layers.Dense(1)
        dense.trainable = False
        assert len(listener.trainable_changes) == 1
        dense.trainable = True
        assert len(listener.trainable_changes) == 2
    finally:
        model_hooks.stop(BACKEND_OF, listener)


def places():
    found = [(layers.Layer, "trainable")]
    for name in ("compile", MAKE):
        owner = next(cls for cls in keras.Model.__mro__ if name in cls.__dict__)
        found.append((owner, name))
    return found


def in_front_of(own):
    if isinstance(own, property):
        return property(own.fget, lambda layer, value: own.fset(layer, value))
    return lambda model, *args, **kwargs: own(model, *args, **kwargs)


@pytest.mark.parametrize(("owner", "name"), places())
def test_a_patch_that_is_made_while_hooks_are_in_place_survives(owner, name):
    before, listener = owner.__dict__[name], Listener()
    model_hooks.start(BACKEND_OF, listener)
    theirs = in_front_of(owner.__dict__[name])
    try:
        setattr(owner, name, theirs)
        model_hooks.stop(BACKEND_OF, listener)
        assert owner.__dict__[name] is theirs
        fit(compiled(transfer()))
        layers.Dense(1).trainable = False
        assert listener.trainable_changes == listener.compiles == listener.trainings == []
    finally:
        setattr(owner, name, before)


@pytest.mark.parametrize(("owner", "name"), places())
def test_what_is_put_back_after_the_hooks_were_taken_off_goes_when_it_is_called(owner, name):
    """As `unittest.mock` does that was entered inside a run and left after it."""
    before, listener = owner.__dict__[name], Listener()
    model_hooks.start(BACKEND_OF, listener)
    ours = owner.__dict__[name]
    try:
        setattr(owner, name, in_front_of(ours))
        model_hooks.stop(BACKEND_OF, listener)
        setattr(owner, name, ours)
        fit(compiled(transfer()))
        layers.Dense(1).trainable = False
        assert owner.__dict__[name] is before
    finally:
        setattr(owner, name, before)


@pytest.mark.parametrize(("owner", "name"), places())
def test_a_patch_that_was_there_before_is_there_after(owner, name):
    before, listener = owner.__dict__[name], Listener()
    theirs = in_front_of(before)
    setattr(owner, name, theirs)
    try:
        model_hooks.start(BACKEND_OF, listener)
        assert owner.__dict__[name] is not theirs
        model_hooks.stop(BACKEND_OF, listener)
        assert owner.__dict__[name] is theirs
    finally:
        setattr(owner, name, before)
