"""What every hook works in: internal errors stay inside, findings go out."""

from __future__ import annotations

import pytest

from keras_bnguard.errors import FindingError, InternalErrorWarning
from keras_bnguard.guard.safe_scope import SafeScope


class Run:
    def __init__(self, emit=None):
        self.new, self.emitted, self.stops = [], [], 0
        self.scope = SafeScope(self.take_new, emit or self.emitted.append, self.stop)

    def take_new(self):
        taken, self.new = tuple(self.new), []
        return taken

    def stop(self):
        self.stops += 1


def test_findings_are_handed_out_when_the_outermost_context_is_left():
    run = Run()
    with run.scope():
        with run.scope():
            run.new.append("found")
        assert run.emitted == []
    assert run.emitted == ["found"]


def test_an_internal_error_stops_the_run_and_what_was_found_is_still_handed_out():
    run = Run()

    def hook():
        with run.scope():
            run.new.append("found")
            raise ValueError

    with pytest.warns(InternalErrorWarning):
        hook()
    assert (run.emitted, run.stops, run.scope.barrier.disabled) == (["found"], 1, True)


def test_an_error_of_the_users_function_passes_and_stops_the_run():
    def emit(finding):
        raise FindingError(finding)

    run = Run(emit)
    with pytest.raises(FindingError, match="found"), run.scope():
        run.new.append("found")
    assert run.stops == 1
    assert not run.scope.barrier.disabled
