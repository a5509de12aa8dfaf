"""Warnings at the user's line."""

import warnings

import pytest

from keras_bnguard.backends.call_stack import warn_user
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
