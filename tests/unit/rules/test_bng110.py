"""BNG110 on facts made by hand."""

from __future__ import annotations

import pytest

from keras_bnguard.records import FlagTiming, Moment, MomentKind, SkipKind
from keras_bnguard.rules.bng101_trainable_changed_after_compile import (
    TrainableChangedAfterCompile,
)
from keras_bnguard.rules.bng110_weights_that_nobody_trains import WeightsThatNobodyTrains as Rule
from keras_bnguard.rules.bng401_statistics_never_loaded import StatisticsNeverLoaded
from tests.builders.facts import (
    STACKS,
    facts,
    norm,
    run,
    skipped,
    stack,
    the_violation,
    trainable_change,
    violations,
)

FOR_GAN = {"set_for": "gan", "set_for_at": "/a/gan.py:12", "compiled_at": "/a/gan.py:8"}


def critic(steps=10, on=None, unmoved=("dense", "bn"), **settings):
    changes = [trainable_change(path, **FOR_GAN) for path in ("", "dense")]
    changes.append(trainable_change("bn", is_norm=True, source="gan.py:10", **FOR_GAN))
    known = run(trainable_changes=tuple(changes), unmoved=unmoved, unmoved_steps=steps, **settings)
    return facts(norm("bn", trainable=False, at_default=True), run=known, on=on)


def test_a_critic_that_never_moves():
    violation = the_violation(Rule, critic())
    assert violation.layers == ("dense", "bn")
    assert "2 layers (1 BN) changed in 10 steps" in violation.message
    assert "gan (compiled at gan.py:12; this model at gan.py:8)" in violation.message
    assert "model.trainable = True" in violation.fix
    assert "model.trainable = False" in violation.fix
    assert violation.source == "gan.py:10"


def test_layers_that_were_frozen_one_by_one_are_set_one_by_one():
    changes = tuple(trainable_change(path, **FOR_GAN) for path in ("base", "base/dense", "bn"))
    known = run(trainable_changes=changes, unmoved=("base/dense", "bn"), unmoved_steps=5)
    fix = the_violation(Rule, facts(run=known)).fix
    assert 'model.get_layer("base"),' in fix
    assert 'get_layer("dense")' not in fix


@pytest.mark.parametrize("name", sorted(STACKS))
def test_what_each_stack_does_is_in_the_message(name):
    assert stack(name).flags in FlagTiming
    the_violation(Rule, critic(on=stack(name)))


def test_a_short_training_is_judged_at_its_end():
    assert violations(Rule, critic(steps=4)) == []
    assert violations(Rule, critic(steps=4, moment=Moment(MomentKind.LOOP_END)))
    assert violations(Rule, critic(steps=1, ended=True))
    assert violations(Rule, critic(steps=0, ended=True)) == []


def test_silent_where_weights_move_or_no_other_model_needs_the_flag():
    assert violations(Rule, critic(unmoved=())) == []
    by_itself = run(trainable_changes=(trainable_change("bn"),), unmoved=("bn",), unmoved_steps=10)
    assert violations(Rule, facts(norm("bn"), run=by_itself)) == []


def test_it_is_the_one_finding_about_them():
    assert violations(TrainableChangedAfterCompile, critic()) == []
    assert violations(StatisticsNeverLoaded, critic()) == []


def test_before_the_first_step_it_is_skipped():
    assert skipped(Rule, critic(steps=0, **{})) is None
    known = facts(norm("bn"), run=run(steps=0))
    assert skipped(Rule, known) is SkipKind.TOO_EARLY
