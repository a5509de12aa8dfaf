"""The barrier in front of internal errors."""

from __future__ import annotations

import warnings

import pytest

from keras_bnguard.errors import FaultBarrier, FindingError, InternalErrorWarning, fail_safe

pytestmark = pytest.mark.with_frameworks


class Owner:
    def __init__(self, **settings):
        self.barrier = FaultBarrier(**settings)
        self.calls = 0

    @fail_safe(result=lambda *args: list(args))
    def work(self, *args, error=None):
        self.calls += 1
        if error is not None:
            raise error
        return "done"


def test_the_first_error_of_a_block_is_reported_once_and_never_raised():
    barrier = FaultBarrier()

    def fail(text):
        with barrier:
            raise ValueError(text)

    with pytest.warns(InternalErrorWarning) as caught:
        fail("first")
    fail("second")  # A second warning would be an error here.
    assert len(caught) == 1
    assert "ValueError('first')" in str(caught[0].message)
    assert [fault.split("\n")[0] for fault in barrier.faults] == [
        "ValueError('first')",
        "ValueError('second')",
    ]
    assert "Traceback" in barrier.faults[0]
    assert barrier.disabled
    assert str(barrier.error) == "first"


def test_nothing_is_raised_where_warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with FaultBarrier() as barrier:
            raise ValueError
    assert barrier.disabled


def test_the_owner_is_disabled_once_and_an_error_in_that_changes_nothing():
    calls = []

    def disable():
        calls.append(1)
        raise RuntimeError

    barrier = FaultBarrier(disable, warns=False)
    for _ in range(2):
        with barrier:
            raise ValueError
    assert calls == [1]


@pytest.mark.parametrize("error", [FindingError("meant for the user"), KeyboardInterrupt()])
def test_what_is_meant_for_the_user_passes(error):
    barrier = FaultBarrier()
    with pytest.raises(type(error)), barrier:
        raise error
    with pytest.raises(type(error)):
        Owner().work(error=error)
    assert not barrier.faults
    assert not barrier.disabled


def test_a_fail_safe_method_runs_no_more_after_an_error():
    owner = Owner(warns=False)
    assert owner.work() == "done"
    assert owner.work(1, 2, error=ValueError()) == [1, 2]
    assert owner.work(3) == [3]
    assert owner.calls == 2


def test_an_owner_that_goes_on_keeps_working_and_keeps_ten_errors():
    owner = Owner(goes_on=True)
    with pytest.warns(InternalErrorWarning) as caught:
        owner.work(error=ValueError())
    for _ in range(12):
        owner.work(error=ValueError())
    assert owner.work() == "done"
    assert len(caught) == 1
    assert len(owner.barrier.faults) == FaultBarrier.KEPT
    assert not owner.barrier.disabled
