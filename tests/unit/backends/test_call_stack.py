"""Frames: variables that are read without keeping them, warnings at the user's line."""

import sys
import warnings
import weakref

import pytest

from keras_bnguard.backends.call_stack import variables_of, warn_user
from keras_bnguard.errors import BNGuardWarning


def test_a_warning_is_shown_in_every_run_of_a_line():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            warn_user("the same")
    assert [str(each.message) for each in caught] == ["the same"] * 3
    assert {each.filename for each in caught} == {__file__}


def test_the_filters_of_the_user_count():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warn_user("hidden")
    assert not caught
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BNGuardWarning):
            warn_user("raised")


class Thing:
    pass


def test_what_the_code_deletes_is_freed_after_its_variables_were_read():
    thing = Thing()
    dead = weakref.ref(thing)
    assert variables_of(sys._getframe())["thing"] is thing
    del thing
    assert dead() is None


def test_a_dict_that_the_code_has_from_locals_keeps_its_items():
    thing = Thing()
    mine = locals()
    assert variables_of(sys._getframe())["thing"] is thing
    assert mine["thing"] is thing
