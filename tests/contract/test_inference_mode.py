"""Forced inference may be nested, entered by threads, and restores everything."""

from __future__ import annotations

import threading

import pytest

from keras_bnguard.backends.patches.attribute_patches import open_patches
from keras_bnguard.backends.patches.inference_mode import ForcedInference
from tests.builders.models import (
    BN,
)
from tests.contract.models import BACKEND_OF, built


def test_forced_inference_may_be_entered_again_and_the_last_exit_restores():
    bn = built(BN())
    forced, other = ForcedInference(BACKEND_OF, [bn]), ForcedInference(BACKEND_OF, [bn])
    call = bn.call
    with forced:
        with forced, other:
            assert open_patches() == 1
        assert "call" in vars(bn)
    assert "call" not in vars(bn)
    assert bn.call == call
    assert open_patches() == 0


def test_forced_inference_in_two_threads_restores_when_both_are_out():
    bn = built(BN())
    forced, gate, inside = ForcedInference(BACKEND_OF, [bn]), threading.Event(), threading.Event()

    def other():
        with forced:
            inside.set()
            gate.wait(10)

    thread = threading.Thread(target=other)
    with forced:
        thread.start()
        assert inside.wait(10)
    assert "call" in vars(bn)
    gate.set()
    thread.join()
    assert "call" not in vars(bn)
    assert open_patches() == 0


def test_an_attribute_of_the_instance_is_restored():
    bn = built(BN())
    mine = bn.call
    object.__setattr__(bn, "call", mine)
    with ForcedInference(BACKEND_OF, [bn]):
        assert vars(bn)["call"] is not mine
    assert vars(bn)["call"] is mine


def test_forced_inference_that_cannot_be_entered_restores_everything():
    bn = built(BN())
    forced = ForcedInference(BACKEND_OF, [bn], modules=[object()])
    with pytest.raises(AttributeError):
        forced.__enter__()
    assert open_patches() == 0
    assert "call" not in vars(bn)
