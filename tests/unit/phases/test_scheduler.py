"""`PhaseScheduler` shows its arguments, on every way to make one."""

from __future__ import annotations

import inspect

import pytest

from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases import builders
from keras_bnguard.phases.phase import Phase
from keras_bnguard.phases.scheduler import PhaseScheduler

OWN = ["optimizer_state", "state", "verbose", "on_failure"]


def parameters(function):
    return dict(inspect.signature(function).parameters)


def test_its_signature_shows_its_arguments():
    assert list(parameters(PhaseScheduler)) == ["phases", *OWN]


@pytest.mark.parametrize("name", ["gradual", "fine_tune"])
def test_a_way_to_make_one_takes_what_its_builder_takes_with_the_same_defaults(name):
    taken = parameters(getattr(PhaseScheduler, name))
    built = parameters(getattr(builders, name))
    assert list(taken) == [*built, *OWN]
    for argument, parameter in built.items():
        assert taken[argument].default == parameter.default


@pytest.mark.parametrize("name", ["gradual", "fine_tune", "from_yaml"])
def test_every_way_to_make_one_takes_what_the_class_takes_with_the_same_defaults(name):
    own, taken = parameters(PhaseScheduler), parameters(getattr(PhaseScheduler, name))
    for argument in OWN:
        assert taken[argument].default == own[argument].default


@pytest.mark.parametrize("name", ["gradual", "fine_tune", "from_yaml"])
def test_every_argument_is_described(name):
    function = getattr(PhaseScheduler, name)
    for argument in parameters(function):
        assert f"\n    {argument}: " in inspect.getdoc(function)


def test_an_unknown_optimizer_state_is_refused():
    with pytest.raises(ScheduleError, match="optimizer_state='keep'"):
        PhaseScheduler([Phase("all", "*")], optimizer_state="keep")
