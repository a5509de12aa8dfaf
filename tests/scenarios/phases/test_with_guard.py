"""BNGuard in the same fit, in any order, and the user's own `force_inference`."""

from __future__ import annotations

import pytest

import keras_bnguard as bng
from keras_bnguard.inference.steps import forced_in_step
from keras_bnguard.model.forced_inference import ForcedInferenceState, forces_in_step
from keras_bnguard.model.kept import find_kept
from tests.builders import schedules as r


@pytest.mark.parametrize("fix", [False, True])
@pytest.mark.parametrize("first", [True, False])
def test_no_finding_about_flags_the_scheduler_changed(first, fix):
    guard, schedule = bng.BNGuard(fix=fix), r.scheduler(r.head_then_all(1, 2))
    r.fit(r.compiled(r.transfer()), 3, [guard, schedule] if first else [schedule, guard])
    assert "BNG101" not in guard.report.codes
    assert "BNG601" not in guard.report.codes
    assert "BNG404" not in guard.report.codes
    assert not guard.report.notes


def test_nothing_of_ours_stays_on_the_model():
    model = r.compiled(r.transfer())
    r.fit(model, 2, [r.scheduler(r.head_then_all(1, 1))])
    assert not forces_in_step(model)
    assert find_kept(model, ForcedInferenceState) is None


def test_what_the_user_forces_is_forced_through_all_phases_and_stays():
    model = r.compiled(r.transfer())
    bng.force_inference(model, layers="head_bn")
    seen = r.At(begin=lambda model, epoch: forced_in_step(model))
    before = r.statistics(model, "head_bn")
    r.fit(model, 2, [r.scheduler(r.head_then_all(1, 1)), seen])
    assert all("head_bn" in paths for paths in seen.seen)
    assert "backbone/bn1" in seen.seen[1]
    assert before == r.statistics(model, "head_bn")
    assert forces_in_step(model)
    assert forced_in_step(model) == ("head_bn",)


def test_a_model_with_the_mixin_keeps_its_own_step():
    base = r.transfer()
    model = r.compiled(bng.GuardedModel(base.inputs, base.outputs))
    r.fit(model, 2, [r.scheduler(r.head_then_all(1, 1))])
    assert forces_in_step(model)
    assert forced_in_step(model) == ()
