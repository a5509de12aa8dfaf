"""Hooks on methods of classes: found whichever class defines the method, and taken off again."""

from __future__ import annotations

import copy
import gc

import pytest

from keras_bnguard.backends.patches.method_hooks import MethodHook, ModelHooks, hook_method


class Base:
    def step(self):
        return ["base"]


class Middle(Base):
    def step(self):
        return [*super().step(), "middle"]


class Last(Middle):
    pass


def noted(hook, model, method):
    return lambda: [*method(), "hooked"]


@pytest.fixture
def hooks():
    made = ModelHooks({"step": noted, "missing": noted})
    yield made
    gc.collect()
    for cls in (Base, Middle, Last):
        assert not any(isinstance(value, MethodHook) for value in vars(cls).values())


@pytest.mark.parametrize(
    ("cls", "own"), [(Base, ["base"]), (Middle, ["base", "middle"]), (Last, ["base", "middle"])]
)
def test_a_model_gets_the_hooked_method_of_its_class_until_the_hooks_are_removed(hooks, cls, own):
    model = cls()
    hooks.add(model)
    assert model.step() == [*own, "hooked"]
    assert cls.step(model) == own
    hooks.remove(model)
    assert model.step() == own


def test_a_class_stays_hooked_while_one_of_its_models_needs_it(hooks):
    one, other = Last(), Last()
    hooks.add(one)
    hooks.add(other)
    hooks.add(other)
    hooks.remove(one)
    assert other.step()[-1] == "hooked"
    hooks.remove(other)
    assert one.step() == ["base", "middle"]


def test_a_model_that_is_gone_needs_no_hooks(hooks):
    one, other = Middle(), Last()
    hooks.add(one)
    hooks.add(other)
    del one
    gc.collect()
    hooks.remove(other)
    assert Middle().step() == ["base", "middle"]


def test_a_method_that_is_replaced_meanwhile_is_hooked_when_it_is_added_again(hooks):
    class Mine(Last):
        pass

    model = Mine()
    hooks.add(model)
    Mine.step = lambda self: ["new"]
    assert model.step() == ["new"]
    hooks.add(model)
    assert model.step() == ["new", "hooked"]
    hooks.remove(model)
    assert model.step() == ["new"]


def test_nothing_is_on_the_model_so_a_copy_has_what_its_class_has(hooks):
    model = Last()
    hooks.add(model)
    assert vars(model) == {}
    assert copy.copy(model).step()[-1] == "hooked"
    hooks.remove(model)


def test_a_class_without_the_method_is_not_hooked():
    class Empty:
        pass

    assert hook_method(Empty, "step", noted) is None
    assert "step" not in vars(Empty)


def test_a_hook_shows_whether_the_class_defines_the_method_itself():
    class Mine(Middle):
        pass

    class Own(Middle):
        def step(self):
            return []

    assert hook_method(Mine, "step", noted).replaces_own is False
    assert hook_method(Own, "step", noted).replaces_own is True
    assert hook_method(Own, "step", noted) is None
