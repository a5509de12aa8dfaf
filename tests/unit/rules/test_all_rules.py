"""What holds for every rule: its doc, its names, its file, its imports."""

import ast
import copy
import dataclasses
import inspect
import pickle
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import keras_bnguard as bng
from keras_bnguard.records import Facts, Severity, SkipKind, Trigger
from keras_bnguard.rules import ALL_RULES, BY_CODE
from keras_bnguard.rules.base import HEADINGS, ExpensiveFact, RepairAction, Rule, parameters
from keras_bnguard.rules.evaluate import RuleFilter, check, evaluate, rules_at
from tests.builders.everything_wrong import EVERYTHING_WRONG
from tests.builders.facts import code_of

EVERY_RULE = RuleFilter.of("ALL")

# Severity, facts it needs, triggers besides SNAPSHOT, repair, rules that it is a consequence of:
# a change of these is a decision.
TABLE = """
| BNG101 | error | inventory run | CHANGE TRAINABLE_CHANGE | PUT_FLAGS_INTO_EFFECT |  |
| BNG102 | error | inventory |  | FORCE_INFERENCE |  |
| BNG103 | warning | inventory | CHANGE |  |  |
| BNG104 | warning | inventory run | CHANGE |  |  |
| BNG105 | error | inventory run | CHANGE | FORCE_INFERENCE |  |
| BNG106 | info | inventory |  |  |  |
| BNG107 | info | inventory |  |  |  |
| BNG110 | warning | inventory run | CHANGE LOOP_END TRAINING_END |  |  |
| BNG201 | error | inventory |  | FORCE_INFERENCE |  |
| BNG202 | warning | inventory | INFERENCE |  |  |
| BNG203 | error | inventory run | CHANGE LEAK | FORCE_INFERENCE |  |
| BNG204 | warning | inventory |  |  |  |
| BNG205 | error | inventory run | CHANGE |  |  |
| BNG206 | error | inventory run | CHANGE |  | 203 101 |
| BNG207 | info | inventory |  |  |  |
| BNG208 | warning | inventory |  |  |  |
| BNG209 | info | inventory |  |  |  |
| BNG301 | warning | inventory fit_settings | TRAINING_END |  |  |
| BNG302 | warning | inventory |  |  |  |
| BNG303 | warning | inventory |  |  |  |
| BNG304 | error | inventory |  |  |  |
| BNG305 | info | inventory |  |  |  |
| BNG401 | error | inventory |  |  |  |
| BNG402 | error | inventory run | CHANGE |  | 501 502 503 304 403 606 |
| BNG403 | warning | inventory run | CHANGE |  |  |
| BNG404 | error | inventory run | CHANGE |  | 201 102 105 204 101 |
| BNG405 | error | inventory run | CHANGE |  | 203 205 607 101 |
| BNG406 | warning | inventory run | CHANGE |  | 201 102 103 104 501 606 101 |
| BNG407 | warning | inventory run | TRAINING_END |  | 301 406 |
| BNG408 | warning | inventory | OUTSIDE |  |  |
| BNG501 | error | inventory data |  |  |  |
| BNG502 | warning | inventory | CHANGE |  |  |
| BNG503 | warning | inventory fit_settings | CHANGE |  |  |
| BNG504 | warning | inventory data |  |  |  |
| BNG505 | warning | inventory data |  |  |  |
| BNG506 | warning | inventory data | LOOP_END TRAINING_END |  | 402 401 405 301 501 502 406 407 |
| BNG507 | error | inventory data |  |  |  |
| BNG601 | error | inventory optimizer |  |  | 101 607 |
| BNG602 | info | inventory optimizer |  |  |  |
| BNG603 | warning | run | TRAINING_END |  |  |
| BNG604 | info | inventory optimizer |  |  |  |
| BNG605 | error | inventory optimizer |  |  |  |
| BNG606 | warning | inventory run optimizer | CHECK CHANGE |  |  |
| BNG607 | error | inventory run | CHANGE RECOMPILE |  |  |
| BNG608 | warning | inventory run | CHECK CHANGE |  | 606 104 |
| BNG609 | warning | run inventory | TRAINING_END ASSIGNMENT |  |  |
| BNG701 | warning | inventory |  |  |  |
| BNG702 | warning | inventory |  |  |  |
| BNG703 | info | inventory |  |  |  |
| BNG704 | info | inventory |  |  |  |
"""
CONTRACT = {
    row[0]: row[1:]
    for row in (
        [cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.splitlines() if line
    )
}
FOLDER = Path(inspect.getfile(Rule)).parent
every_rule = pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.code)


def all_violations(rule):
    """What a rule finds in all facts in which everything is wrong."""
    known = [each for each in EVERYTHING_WRONG if all(map(each.has, rule.needs()))]
    return [violation for each in known for violation in check(rule, each)]


def file_of(rule):
    return Path(inspect.getfile(rule))


def test_codes_are_sorted_and_unique():
    codes = [rule.code for rule in ALL_RULES]
    assert codes == sorted(set(codes))
    assert [BY_CODE[code] for code in codes] == list(ALL_RULES)


def test_names_and_classes_are_unique():
    assert len({rule.name for rule in ALL_RULES}) == len(ALL_RULES)
    assert len({rule.__name__ for rule in ALL_RULES}) == len(ALL_RULES)


def test_every_rule_file_is_listed():
    assert {file_of(rule).name for rule in ALL_RULES} == {p.name for p in FOLDER.glob("bng*.py")}


def test_the_contract_has_one_row_for_each_rule():
    missing = [rule.code for rule in ALL_RULES if rule.code not in CONTRACT]
    assert not missing, f"add a row for {missing} to TABLE in this file"
    assert list(CONTRACT) == [rule.code for rule in ALL_RULES]


@every_rule
def test_a_rule_declares_what_the_contract_promises(rule):
    assert rule.code in CONTRACT, f"add a row for {rule.code} to TABLE in this file"
    severity, needs, evaluated_at, repair, causes = CONTRACT[rule.code]
    assert rule.severity is Severity(severity)
    assert list(rule.needs()) == needs.split()
    assert rule.evaluated_at == {
        Trigger.SNAPSHOT,
        *(Trigger[name] for name in evaluated_at.split()),
    }
    declared = None if rule.repair is None else rule.repair.action
    assert declared is (RepairAction[repair] if repair else None)
    assert list(rule.consequence_of) == [f"BNG{number}" for number in causes.split()]


@every_rule
def test_every_declared_value_is_one_that_the_code_knows(rule):
    assert isinstance(rule.severity, Severity)
    assert all(isinstance(trigger, Trigger) for trigger in rule.evaluated_at)
    assert rule.repair is None or isinstance(rule.repair.action, RepairAction)
    assert all(isinstance(fact, ExpensiveFact) for fact in rule.wants)
    assert set(rule.consequence_of) <= set(BY_CODE) - {rule.code}
    assert isinstance(rule.needs_calls, bool)


@every_rule
@pytest.mark.parametrize("method", ["check", "skip_reason"])
def test_a_rule_takes_facts_by_their_names(rule, method):
    taken = dict(parameters(getattr(rule, method)))
    assert set(taken) <= {field.name for field in dataclasses.fields(Facts)}
    # Nothing that only `skip_reason` needs: the evaluator reads the signature of `check`.
    assert method == "check" or {n for n, needed in taken.items() if needed} <= set(rule.needs())


@every_rule
def test_a_file_is_named_after_code_and_name(rule):
    assert file_of(rule).stem == f"{rule.code}_{rule.name}".lower().replace("-", "_")


@every_rule
def test_a_class_is_named_after_its_rule(rule):
    assert rule.__name__.lower() == rule.name.replace("-", "")


@every_rule
def test_a_rule_is_documented_under_all_headings_in_order(rule):
    assert rule.title().endswith(".")
    sections = rule.sections()
    assert tuple(sections) == HEADINGS
    assert all(sections.values())


@every_rule
def test_a_doc_fits_the_line_and_stays_in_ascii(rule):
    assert rule.__doc__.isascii()
    assert max(len(line) for line in rule.__doc__.splitlines()) <= 100


@every_rule
def test_an_uncertain_rule_is_documented_as_such_under_its_limits(rule):
    if not rule.certain:
        assert re.search(
            r"not\s+certain|not\s+as\s+a\s+fault", rule.sections()["Known limits"], re.I
        )


@every_rule
def test_a_rule_is_skipped_where_a_fact_that_it_needs_is_missing(rule):
    for full in EVERYTHING_WRONG:
        for name in rule.needs():
            found, (outcome,) = evaluate(replace(full, **{name: None}), (rule,), EVERY_RULE)
            assert not found
            assert outcome.skip_kind is SkipKind.MISSING_FACT


@every_rule
def test_a_rule_runs_where_every_optional_fact_is_missing(rule):
    for full in EVERYTHING_WRONG:
        only = Facts(**{name: getattr(full, name) for name in rule.needs()})
        _, (outcome,) = evaluate(only, (rule,), EVERY_RULE)
        assert outcome.skip_kind is not SkipKind.RULE_FAILED, outcome.reason


@every_rule
def test_a_rule_leaves_the_facts_as_they_were(rule):
    for known in EVERYTHING_WRONG:
        before = copy.deepcopy(known)
        evaluate(known, (rule,), EVERY_RULE)
        assert known == before


@every_rule
def test_a_rule_fires_where_everything_is_wrong(rule):
    assert all_violations(rule), (
        f"add facts in which {rule.code} fires to tests/builders/everything_wrong.py"
    )


@every_rule
def test_a_violation_names_layers_and_a_fix_and_can_be_pickled(rule):
    for violation in all_violations(rule):
        assert violation.message.endswith(".")
        assert violation.fix
        assert len(set(violation.layers)) == len(violation.layers)
        assert violation.evidence
        assert pickle.loads(pickle.dumps(violation)) == violation


@every_rule
def test_code_in_a_fix_has_no_gap_and_its_imports_and_place(rule):
    for violation in all_violations(rule):
        tree = code_of(violation.fix)
        assert not [node for node in ast.walk(tree) if getattr(node, "value", None) is ...]
        if "bng." in ast.unparse(tree):
            assert "import keras_bnguard as bng" in violation.fix
        if "keras.layers" in ast.unparse(tree):
            assert "import keras\n" in violation.fix
        if tree.body and rule.code not in NO_PLACE:
            assert re.search(r"(before|after) fit", violation.fix), violation.fix


NO_PLACE = {"BNG507", "BNG704"}
"""Rules of `audit` too, and code that stands where the model predicts."""


@every_rule
def test_a_fix_calls_this_package_with_arguments_that_it_takes(rule):
    for violation in all_violations(rule):
        for node in ast.walk(code_of(violation.fix)):
            called = getattr(node, "func", None)
            if not isinstance(called, ast.Attribute) or ast.unparse(called.value) != "bng":
                continue
            signature = inspect.signature(getattr(bng, called.attr))
            signature.bind_partial(*node.args, **{each.arg: each.value for each in node.keywords})


def test_the_rules_on_unchanged_statistics_need_observable_calls():
    """A custom training loop may pass `training=False` at calls that nobody observed."""
    assert [rule.code for rule in ALL_RULES if rule.needs_calls] == ["BNG405"]


class Unread(tuple):
    """Statistics changes that may not be read: they are not collected at `Trigger.CHECK`."""

    def __iter__(self):
        raise AssertionError("statistics changes were read")


@pytest.mark.parametrize("rule", rules_at(Trigger.CHECK), ids=lambda rule: rule.code)
def test_a_rule_of_every_check_does_not_read_statistics_changes(rule):
    for known in EVERYTHING_WRONG:
        if known.run is not None:
            run = replace(known.run, statistics_changes=Unread())
            _, (outcome,) = evaluate(replace(known, run=run), (rule,), EVERY_RULE)
            assert outcome.skip_kind is not SkipKind.RULE_FAILED, outcome.reason


def test_a_rule_that_reads_statistics_changes_fails_that_check():
    (known, *_) = EVERYTHING_WRONG
    unread = replace(known, run=replace(known.run, statistics_changes=Unread()))
    _, (outcome,) = evaluate(unread, (BY_CODE["BNG402"],), EVERY_RULE)
    assert outcome.skip_kind is SkipKind.RULE_FAILED


def test_a_chain_of_consequences_never_returns_to_its_start():
    def causes(code):
        direct = BY_CODE[code].consequence_of
        return set(direct).union(*(causes(cause) for cause in direct))

    assert not [code for code in BY_CODE if code in causes(code)]


@every_rule
def test_every_yield_of_a_rule_has_a_fix(rule):
    tree = ast.parse(file_of(rule).read_text(encoding="utf-8"))
    made = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "Violation"
    ]
    assert made
    for node in made:
        assert {"layers", "message", "fix"} <= {keyword.arg for keyword in node.keywords}


@every_rule
def test_a_rule_has_its_own_test_file(rule):
    name = f"test_{rule.code.lower()}.py"
    assert Path(__file__).with_name(name).is_file(), f"write tests/unit/rules/{name}"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("bng*.py")), ids=lambda path: path.stem)
def test_a_rule_file_imports_nothing_but_records_and_what_rules_share(path):
    allowed = {
        "keras_bnguard.records",
        "keras_bnguard.rules.base",
        "keras_bnguard.rules.batch_sizes",
        "keras_bnguard.rules.predicates",
        "keras_bnguard.rules.text",
        "keras_bnguard.rules.thresholds",
        "keras_bnguard.statistics.drift",
    }
    if path.stem == "bng407_statistics_still_converging":  # what is left to it by the other
        allowed.add("keras_bnguard.rules.bng301_momentum_too_slow_for_run")
    if path.stem == "__init__":
        allowed |= {f"keras_bnguard.rules.{file_of(rule).stem}" for rule in ALL_RULES}
    if not hasattr(sys, "stdlib_module_names"):
        pytest.skip("needs Python 3.10: the list of standard modules")
    standard = sys.stdlib_module_names | {"numpy"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
            assert not node.level
        else:
            continue
        for module in modules:
            assert module in allowed or module.split(".")[0] in standard, f"{path.name}: {module}"
