"""Running rules: select, ignore, already fired, what could not look, and rules that fail."""

from __future__ import annotations

import pytest

from keras_bnguard.errors import SettingError
from keras_bnguard.records import Facts, Outcome, RunFacts, Severity
from keras_bnguard.rules import ALL_RULES
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.evaluate import RuleFilter, evaluate, merge_outcomes
from tests.builders.facts import inventory, norm


class Two(Rule):
    """A rule with two hits."""

    code, name, severity, needs = "BNG101", "two", "warning", ("A",)

    def check(self, facts):
        yield Violation(("base/bn1", "base/bn2"), "first", "do it", {"n": 2}, source="train.py:3")
        yield Violation(("head/bn",), "second", "do that", severity="error")


class Whole(Rule):
    """A rule whose hit names no layer."""

    code, name, severity, needs = "BNG206", "whole", "error", ("A", "R")

    def check(self, facts):
        yield Violation((), "all of it", "do")


class Info(Rule):
    """An info rule."""

    code, name, severity, needs = "BNG103", "info", Severity.INFO, ()

    def check(self, facts):
        yield Violation(("x",), "by the way", "nothing")


class Clear(Rule):
    """A rule without a hit."""

    code, name, severity, needs = "BNG201", "clear", "error", ("A",)

    def check(self, facts):
        return ()


class Blind(Clear):
    """A rule that cannot judge the facts it has."""

    code = "BNG202"

    def skip_reason(self, facts):
        return "the model is not built"


class Broken(Rule):
    """A rule that raises."""

    code, name, severity, needs = "BNG203", "broken", "error", ()

    def check(self, facts):
        yield Violation(("x",), "lost", "lost")
        raise ZeroDivisionError("oops")


FACTS = Facts(inventory=inventory(norm("base/bn1")))
RULES = (Two, Info, Clear, Blind, Broken, Whole)


def statuses(**settings):
    _, outcomes = evaluate(FACTS, RULES, RuleFilter.of(**settings))
    return {outcome.code: outcome.status for outcome in outcomes}


def reasons(**settings):
    _, outcomes = evaluate(FACTS, RULES, RuleFilter.of(**settings))
    return {outcome.code: outcome.reason for outcome in outcomes}


def layers(**settings):
    found, _ = evaluate(FACTS, (Two,), RuleFilter.of(**settings))
    return [finding.layers for finding in found]


def test_every_rule_ends_with_one_outcome_and_a_skipped_one_has_a_reason():
    assert statuses() == {
        "BNG101": "fired",
        "BNG103": "skipped",
        "BNG201": "clear",
        "BNG202": "skipped",
        "BNG203": "skipped",
        "BNG206": "skipped",
    }
    assert reasons()["BNG103"] == "info, select it to see it"
    assert reasons()["BNG202"] == "the model is not built"
    assert reasons()["BNG206"] == "needs R (what happened between two looks while training ran)"


def test_a_hit_becomes_a_finding_with_the_rules_name_and_its_own_severity():
    first, second = evaluate(FACTS, (Two,), None)[0]
    assert (first.code, first.name, first.severity) == ("BNG101", "two", "warning")
    assert (first.message, first.fix, first.source) == ("first", "do it", "train.py:3")
    assert dict(first.evidence) == {"n": 2}
    assert first.moment == "audit"
    assert second.severity == "error"


def test_the_moment_of_the_run_is_the_moment_of_the_finding():
    found, _ = evaluate(Facts(FACTS.inventory, run=RunFacts(moment="epoch 3 end")), (Two, Whole))
    assert {finding.moment for finding in found} == {"epoch 3 end"}
    assert [finding.code for finding in found] == ["BNG101", "BNG101", "BNG206"]


def test_a_rule_that_raises_is_skipped_with_the_error_and_its_hits_are_not_trusted():
    found, (outcome,) = evaluate(FACTS, (Broken,), None)
    assert not found
    assert outcome == Outcome("BNG203", "skipped", "the rule failed: ZeroDivisionError: oops")


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
    assert {o.code for o in outcomes if o.reason != "not selected"} == run


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


def test_a_rule_whose_every_layer_is_ignored_is_muted_and_says_how_many():
    _, (outcome,) = evaluate(FACTS, (Two,), RuleFilter.of(ignore={"BNG101": ["base", "head"]}))
    assert outcome == Outcome("BNG101", "muted", "2 muted by ignore")


def test_a_finding_without_layers_is_muted_by_its_code_but_by_no_glob():
    facts = Facts(FACTS.inventory, run=RunFacts())
    assert evaluate(facts, (Whole,), RuleFilter.of(ignore={"BNG206": ["base/*"]}))[0]
    found, (outcome,) = evaluate(facts, (Whole,), RuleFilter.of(ignore="BNG206"))
    assert not found
    assert outcome.status == "muted"


def test_what_already_fired_is_not_told_again_but_stays_fired():
    found, (outcome,) = evaluate(FACTS, (Two,), None, fired={"BNG101"})
    assert not found
    assert outcome.status == "fired"


@pytest.mark.parametrize("setting", ["select", "ignore"])
@pytest.mark.parametrize("name", ["BNG999", "bng101", "X"])
def test_a_name_that_is_no_code_is_an_error_that_lists_the_codes(setting, name):
    with pytest.raises(SettingError, match=f"'{name}' is no rule code.*BNG101, BNG102"):
        RuleFilter.of(**{setting: [name]})


def test_names_says_what_was_asked_for():
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
        ("skipped", "clear", "clear"),
        ("clear", "skipped", "clear"),
        ("clear", "fired", "fired"),
        ("fired", "clear", "fired"),
        ("muted", "clear", "muted"),
        ("muted", "fired", "fired"),
        ("skipped", "skipped", "skipped"),
    ],
)
def test_over_several_looks_the_outcome_that_says_most_stays(before, now, merged):
    (outcome,) = merge_outcomes([Outcome("BNG101", before)], [Outcome("BNG101", now, "later")])
    assert outcome.status == merged
    assert outcome.reason == ("later" if merged == now else "")


def test_merged_outcomes_are_in_code_order_and_none_is_lost():
    merged = merge_outcomes([Outcome("BNG404", "clear")], [Outcome("BNG101", "clear")])
    assert [o.code for o in merged] == ["BNG101", "BNG404"]
