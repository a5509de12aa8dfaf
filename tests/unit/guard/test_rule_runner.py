"""The rules of a run: which are evaluated at a trigger, and when one may fire again."""

from __future__ import annotations

import pytest

from keras_bnguard.guard.rule_runner import RuleRunner
from keras_bnguard.records import Trigger
from keras_bnguard.rules import ALL_RULES
from keras_bnguard.rules.evaluate import RuleFilter, rules_at
from tests.builders.facts import facts, run, trainable_change

CHANGED = facts(run=run(trainable_changes=(trainable_change("bn"),)))


@pytest.fixture
def runner():
    return RuleRunner(RuleFilter())


def codes(runner):
    return [finding.code for finding in runner.findings.take_new()]


def test_a_rule_fires_once_in_a_phase(runner):
    runner.run(Trigger.TRAINABLE_CHANGE, CHANGED)
    assert codes(runner) == ["BNG101"]
    assert not runner.can_fire(Trigger.TRAINABLE_CHANGE)
    runner.run(Trigger.TRAINABLE_CHANGE, CHANGED)
    assert codes(runner) == []
    runner.begin_phase()
    runner.run(Trigger.TRAINABLE_CHANGE, CHANGED)
    assert codes(runner) == ["BNG101"]


def test_the_rules_of_one_trigger_may_be_let_fire_again(runner):
    runner.run(Trigger.TRAINABLE_CHANGE, CHANGED)
    runner.forget(Trigger.LEAK)
    assert not runner.can_fire(Trigger.TRAINABLE_CHANGE)
    runner.forget(Trigger.TRAINABLE_CHANGE)
    assert runner.can_fire(Trigger.TRAINABLE_CHANGE)


def test_a_snapshot_evaluates_every_rule_and_another_trigger_its_own(runner):
    runner.run(Trigger.TRAINABLE_CHANGE, CHANGED)
    expected = [rule.code for rule in rules_at(Trigger.TRAINABLE_CHANGE)]
    assert [outcome.code for outcome in runner.outcomes] == expected
    runner.run(Trigger.SNAPSHOT, CHANGED)
    assert [outcome.code for outcome in runner.outcomes] == sorted(r.code for r in ALL_RULES)
