"""`bnguard rules` and `bnguard explain`: no framework is needed to read about the rules."""

from __future__ import annotations

import json

import pytest

from keras_bnguard.cli import main
from keras_bnguard.records import FACT_DESCRIPTIONS
from keras_bnguard.rules import ALL_RULES

CODES = [rule.code for rule in ALL_RULES]


def test_rules_lists_every_rule_in_80_columns(capsys):
    assert main(["rules"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("BNG")] == CODES
    assert max(map(len, lines)) <= 80
    for rule in ALL_RULES:
        (line,) = (line for line in lines if line.startswith(rule.code))
        assert line.split()[1:3] == [rule.name, rule.severity]
        assert line.endswith("repairs") is (rule.repair is not None)


def test_rules_lists_which_rules_need_more_than_the_model(capsys):
    main(["rules"])
    out = " ".join(capsys.readouterr().out.split())
    for fact in ("optimizer", "data", "fit_settings"):
        codes = [rule.code for rule in ALL_RULES if fact in rule.needs()]
        assert f"Need {FACT_DESCRIPTIONS[fact]}: {', '.join(codes)}." in out


def test_rules_as_json(capsys):
    assert main(["rules", "--output-format", "json"]) == 0
    out, err = capsys.readouterr()
    rules = json.loads(out)
    assert err == ""
    assert [rule["code"] for rule in rules] == CODES
    assert [rule["needs"] for rule in rules] == [list(rule.needs()) for rule in ALL_RULES]
    assert all(rule["title"] for rule in rules)


@pytest.mark.parametrize("rule", ALL_RULES, ids=CODES)
def test_explain_prints_the_whole_doc(rule, capsys):
    assert main(["explain", rule.code]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"{rule.code} {rule.name}\n({rule.severity}, ")
    assert rule.title() in out
    assert all(f"\n{heading}:\n" in out for heading in rule.sections())
    assert ("repairs it" in out.splitlines()[1]) is (rule.repair is not None)


@pytest.mark.parametrize("wanted", ["bng201", " BNG201 ", "training-false-ignored"])
def test_explain_takes_any_case_and_names(wanted, capsys):
    assert main(["explain", wanted]) == 0
    assert capsys.readouterr().out.startswith("BNG201 training-false-ignored")


@pytest.mark.parametrize(
    ("wanted", "near"),
    [
        ("BNG291", "Nearest: BNG201 training-false-ignored, "),
        ("frozen-stat", "Nearest: BNG404 frozen-statistics-updated"),
        ("BNG2O1", "BNG201"),
        ("training-false", "BNG201"),
        ("nonfinite-statistics", "BNG402"),
        ("", CODES[0]),
    ],
)
def test_explain_names_the_nearest_rules(wanted, near, capsys):
    assert main(["explain", wanted]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith(f"bnguard: {wanted!r} is no rule. Nearest: ")
    assert near in line
    assert line.endswith("`bnguard rules` lists all.")


def test_explain_takes_numbers_prefixes_and_several(capsys):
    assert main(["explain", "201", "bng404,"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("BNG201 ")
    assert "\nBNG404 frozen-statistics-updated" in out
    assert main(["explain", "BNG2"]) == 0
    out = capsys.readouterr().out
    assert all(f"{code} " in out for code in CODES if code.startswith("BNG2"))
    assert "BNG301 " not in out.split("\n")[0]


def test_explain_as_json(capsys):
    assert main(["explain", "BNG201", "--output-format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["code"] == "BNG201"
    assert next(iter(found["sections"])) == "What it checks"
