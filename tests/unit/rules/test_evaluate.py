"""Running rules: select, ignore, already fired, rules that were skipped, and rules that fail."""

from __future__ import annotations

import gc
from typing import Optional

import pytest

from keras_bnguard.errors import SettingError
from keras_bnguard.records import (
    AUDIT,
    DataFacts,
    DataPart,
    Facts,
    Inventory,
    Moment,
    MomentKind,
    Outcome,
    OutcomeStatus,
    RunFacts,
    Severity,
    SkipKind,
    SkipReason,
    Trigger,
)
from keras_bnguard.rules import ALL_RULES
from keras_bnguard.rules.base import ExpensiveFact, Rule, Violation
from keras_bnguard.rules.evaluate import (
    RuleFilter,
    evaluate,
    merge_outcomes,
    rules_at,
    wanted_facts,
)
from tests.builders.facts import inventory, norm


class Two(Rule):
    """A rule with two violations."""

    code, name, severity = "BNG101", "two", Severity.WARNING

    def check(self, inventory: Inventory):
        yield Violation(("base/bn1", "base/bn2"), "first", "do it", {"n": 2}, source="train.py:3")
        yield Violation(("head/bn",), "second", "do that", severity=Severity.ERROR)


class Whole(Rule):
    """A rule whose violation names no layer."""

    code, name, severity = "BNG206", "whole", Severity.ERROR

    def check(self, inventory: Inventory, run: RunFacts):
        yield Violation((), "all of it", "do")


class Info(Rule):
    """An info rule."""

    code, name, severity = "BNG103", "info", Severity.INFO

    def check(self):
        yield Violation(("x",), "by the way", "nothing")


class Passing(Rule):
    """A rule without a violation."""

    code, name, severity = "BNG201", "passing", Severity.ERROR

    def check(self, inventory: Inventory):
        return ()


class Undecided(Passing):
    """A rule that cannot judge the facts it has."""

    code = "BNG202"

    def skip_reason(self, inventory: Inventory):
        return SkipReason(SkipKind.NOT_KNOWN, "the model is not built")


class Broken(Rule):
    """A rule that raises."""

    code, name, severity = "BNG203", "broken", Severity.ERROR

    def check(self):
        yield Violation(("x",), "lost", "lost")
        raise ZeroDivisionError("oops")


FACTS = Facts(inventory=inventory(norm("base/bn1")))
RULES = (Two, Info, Passing, Undecided, Broken, Whole)


def statuses(**settings):
    _, outcomes = evaluate(FACTS, RULES, RuleFilter.of(**settings))
    return {outcome.code: outcome.status for outcome in outcomes}


def skip_kinds(**settings):
    _, outcomes = evaluate(FACTS, RULES, RuleFilter.of(**settings))
    return {outcome.code: outcome.skip_kind for outcome in outcomes}


def layers(**settings):
    found, _ = evaluate(FACTS, (Two,), RuleFilter.of(**settings))
    return [finding.layers for finding in found]


def test_every_rule_ends_with_one_outcome_and_a_skipped_one_has_a_reason():
    assert statuses() == {
        "BNG101": "fired",
        "BNG103": "skipped",
        "BNG201": "passed",
        "BNG202": "skipped",
        "BNG203": "skipped",
        "BNG206": "skipped",
    }
    assert skip_kinds()["BNG103"] is SkipKind.INFO_NOT_SELECTED
    assert skip_kinds()["BNG202"] is SkipKind.NOT_KNOWN
    assert skip_kinds()["BNG206"] is SkipKind.MISSING_FACT


def test_a_violation_becomes_a_finding_with_the_rules_name_and_its_own_severity():
    first, second = evaluate(FACTS, (Two,), None)[0]
    assert (first.code, first.name, first.severity) == ("BNG101", "two", "warning")
    assert (first.message, first.fix, first.source) == ("first", "do it", "train.py:3")
    assert dict(first.evidence) == {"n": 2}
    assert first.moment == AUDIT
    assert second.severity is Severity.ERROR


def test_the_moment_of_the_run_is_the_moment_of_the_finding():
    moment = Moment(MomentKind.EPOCH_END, 3)
    found, _ = evaluate(Facts(FACTS.inventory, run=RunFacts(moment=moment)), (Two, Whole))
    assert {finding.moment for finding in found} == {moment}
    assert [finding.code for finding in found] == ["BNG101", "BNG101", "BNG206"]


def test_a_rule_that_raises_is_skipped_with_the_error_and_its_violations_are_not_trusted():
    found, (outcome,) = evaluate(FACTS, (Broken,), None)
    assert not found
    assert (outcome.status, outcome.skip_kind) == (OutcomeStatus.SKIPPED, SkipKind.RULE_FAILED)
    assert "ZeroDivisionError: oops" in outcome.reason


@pytest.mark.parametrize(
    ("select", "run"),
    [
        ("BNG101", {"BNG101"}),
        ("BNG1", {"BNG101", "BNG103"}),
        (["BNG101", "BNG201"], {"BNG101", "BNG201"}),
        ("BNG101, BNG201", {"BNG101", "BNG201"}),
        ("BNG103", {"BNG103"}),
    ],
)
def test_select_takes_codes_and_prefixes(select, run):
    _, outcomes = evaluate(FACTS, RULES, RuleFilter.of(select))
    assert {o.code for o in outcomes if o.skip_kind is not SkipKind.NOT_SELECTED} == run


def test_all_selects_the_info_rules_too():
    assert statuses(select="ALL")["BNG103"] == "fired"
    assert statuses()["BNG103"] == "skipped"


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        (None, [("base/bn1", "base/bn2"), ("head/bn",)]),
        ("BNG101", []),
        (["BNG1"], []),
        ({"BNG101": ()}, []),
        ({"BNG101": "base/*"}, [("head/bn",)]),
        ({"BNG101": ["base/bn1", "head"]}, [("base/bn2",)]),
        ({"BNG1": ["head/bn"], "BNG101": ["base/bn2"]}, [("base/bn1",)]),
        ({"BNG2": ["*"]}, [("base/bn1", "base/bn2"), ("head/bn",)]),
        ({"BNG101": "model/base"}, [("head/bn",)]),
    ],
)
def test_ignore_takes_layers_out_of_a_finding(ignore, left):
    assert layers(ignore=ignore) == left


def test_a_rule_whose_every_layer_is_ignored_ends_as_ignored_with_their_number():
    _, (outcome,) = evaluate(FACTS, (Two,), RuleFilter.of(ignore={"BNG101": ["base", "head"]}))
    assert outcome.status is OutcomeStatus.IGNORED
    assert outcome.reason.startswith("2 ")


def test_a_finding_without_layers_is_ignored_by_its_code_but_by_no_glob():
    facts = Facts(FACTS.inventory, run=RunFacts())
    assert evaluate(facts, (Whole,), RuleFilter.of(ignore={"BNG206": ["base/*"]}))[0]
    found, (outcome,) = evaluate(facts, (Whole,), RuleFilter.of(ignore="BNG206"))
    assert not found
    assert outcome.status is OutcomeStatus.IGNORED


def test_what_already_fired_is_not_reported_again_but_stays_fired():
    found, (outcome,) = evaluate(FACTS, (Two,), None, fired={"BNG101"})
    assert not found
    assert outcome.status is OutcomeStatus.FIRED


@pytest.mark.parametrize("setting", ["select", "ignore"])
@pytest.mark.parametrize("name", ["BNG999", "bng101", "X"])
def test_a_name_that_is_no_code_is_an_error_that_lists_the_codes(setting, name):
    with pytest.raises(SettingError, match=f"'{name}' is no rule code.*BNG101, BNG102"):
        RuleFilter.of(**{setting: [name]})


def test_names_is_true_for_what_the_user_named():
    assert RuleFilter.of("BNG1").names("BNG106")
    assert RuleFilter.of("ALL").names("BNG106")
    assert not RuleFilter.of().names("BNG106")
    assert not RuleFilter.of("BNG2").names("BNG106")


def test_without_any_facts_every_rule_that_needs_them_is_skipped_with_a_reason():
    found, outcomes = evaluate(Facts())
    assert not found
    assert [o.code for o in outcomes] == [rule.code for rule in ALL_RULES]
    assert {o.status for o in outcomes} == {"skipped"}
    assert all(o.reason for o in outcomes)


@pytest.mark.parametrize(
    ("before", "now", "merged"),
    [
        ("skipped", "passed", "passed"),
        ("passed", "skipped", "passed"),
        ("passed", "fired", "fired"),
        ("fired", "passed", "fired"),
        ("ignored", "passed", "ignored"),
        ("ignored", "fired", "fired"),
        ("skipped", "skipped", "skipped"),
    ],
)
def test_over_several_checks_the_outcome_of_the_highest_rank_stays(before, now, merged):
    (outcome,) = merge_outcomes(
        [Outcome("BNG101", OutcomeStatus(before))], [Outcome("BNG101", OutcomeStatus(now), "later")]
    )
    assert outcome.status == merged
    assert outcome.reason == ("later" if merged == now else "")


def test_merged_outcomes_are_in_code_order_and_none_is_lost():
    merged = merge_outcomes(
        [Outcome("BNG404", OutcomeStatus.PASSED)], [Outcome("BNG101", OutcomeStatus.PASSED)]
    )
    assert [o.code for o in merged] == ["BNG101", "BNG404"]


class WithOptional(Rule):
    """A rule with a fact that it can do without."""

    code, name, severity = "BNG205", "with-optional", Severity.ERROR

    def check(self, inventory: Inventory, run: Optional[RunFacts] = None):
        yield Violation((), "no run" if run is None else run.moment, "do")


def test_a_fact_with_a_default_is_none_where_it_is_missing():
    (finding,) = evaluate(FACTS, (WithOptional,))[0]
    assert finding.message == "no run"
    (finding,) = evaluate(Facts(FACTS.inventory, run=RunFacts(moment="here")), (WithOptional,))[0]
    assert finding.message == "here"


def test_a_rule_that_needs_calls_is_skipped_where_they_are_not_observable():
    class NeedsCalls(Two):
        needs_calls = True

    (outcome,) = evaluate(Facts(FACTS.inventory, run=RunFacts()), (NeedsCalls,))[1]
    assert outcome.status is OutcomeStatus.FIRED
    unseen = Facts(FACTS.inventory, run=RunFacts(calls_observable=False))
    (outcome,) = evaluate(unseen, (NeedsCalls,))[1]
    assert outcome.skip_kind is SkipKind.CALLS_NOT_OBSERVABLE


def test_data_that_could_not_be_read_are_missing_with_their_own_reason():
    class NeedsData(Rule):
        code, name, severity = "BNG501", "needs-data", Severity.ERROR

        def check(self, data: DataFacts):
            return ()

    unreadable = Facts(data=DataFacts(missing={DataPart.BATCHES: "no batch came out"}))
    (outcome,) = evaluate(unreadable, (NeedsData,))[1]
    assert (outcome.skip_kind, outcome.reason) == (SkipKind.MISSING_FACT, "no batch came out")


def test_every_rule_runs_on_a_snapshot_and_every_trigger_runs_some_rule():
    assert rules_at(Trigger.SNAPSHOT) == ALL_RULES
    assert all(rules_at(trigger) for trigger in Trigger)
    assert set(rules_at(Trigger.CHECK)) <= set(rules_at(Trigger.CHANGE))


def test_expensive_facts_are_wanted_where_a_rule_that_uses_them_is_selected():
    assert wanted_facts(RuleFilter.of()) == frozenset()
    assert wanted_facts(RuleFilter.of("ALL")) == frozenset(ExpensiveFact)
    for fact in ExpensiveFact:
        (rule,) = [rule for rule in ALL_RULES if fact in rule.wants]
        assert wanted_facts(RuleFilter.of(rule.code)) == {fact}


def test_evaluating_again_and_again_keeps_nothing():
    facts = Facts(inventory=inventory(norm("bn")))
    evaluate(facts, rules=ALL_RULES)
    gc.collect()
    before = sum(isinstance(each, Rule) for each in gc.get_objects())
    for _ in range(5):
        evaluate(facts, rules=ALL_RULES)
    gc.collect()
    assert sum(isinstance(each, Rule) for each in gc.get_objects()) <= before
