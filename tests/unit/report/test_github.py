"""The report as workflow commands: one line a finding, whatever is written in it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings

from keras_bnguard.records import Finding, Severity
from keras_bnguard.report.github import annotation, render
from tests.builders.reports import DRIFTED, IGNORED, MENDED, NEWS, faulty, plain, reports

LINE = re.compile(r"::(error|warning|notice) ((?:\w+=[^,:\r\n]*,?)+)::([^\r\n]*)")


def read(line):
    """A command as the runner reads it: level, properties, message."""
    level, properties, message = LINE.fullmatch(line).groups()
    pairs = (part.split("=", 1) for part in properties.split(","))
    return level, {name: undone(value) for name, value in pairs}, undone(message)


def undone(text):
    for code, mark in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, mark)
    return text


def test_an_annotation_stands_at_the_line_with_message_and_fix():
    level, properties, message = read(annotation(IGNORED))
    assert level == "error"
    assert properties == {
        "file": "train.py",
        "line": "41",
        "title": "BNG201 flag-changed-after-compile",
    }
    assert message == f"{IGNORED.message}\nfix: {IGNORED.fix}"


@pytest.mark.parametrize(
    ("finding", "level"),
    [(IGNORED, "error"), (DRIFTED, "warning"), (NEWS, "notice"), (MENDED, "notice")],
)
def test_the_level_follows_the_severity_until_it_is_repaired(finding, level):
    assert read(annotation(finding))[0] == level


def test_a_repaired_finding_shows_what_was_done():
    assert (
        read(annotation(MENDED))[2] == "repaired: forced\nbefore the repair: Ran in training mode."
    )


def test_per_cent_and_line_ends_are_escaped_in_the_message():
    finding = Finding("BNG101", "n", Severity.ERROR, (), "50 % of\nit: a, b", "")
    assert annotation(finding) == "::error title=BNG101 n::50 %25 of%0Ait: a, b"


def test_colons_and_commas_are_escaped_in_the_properties():
    finding = Finding("BNG101", "n", Severity.ERROR, (), "m", "", source="C:\\a,b%.py:7")
    assert annotation(finding) == "::error file=C%3A\\a%2Cb%25.py,line=7,title=BNG101 n::m"


def test_no_name_can_start_a_command_of_its_own():
    finding = Finding(
        "BNG101", "n\n::error::x", Severity.ERROR, (), "m\r\n::set-env::y", "::add-mask::z"
    )
    (line,) = annotation(finding).splitlines()
    assert read(line)[1]["title"] == "BNG101 n\\n::error::x"


def test_one_line_a_finding_causes_first():
    lines = render(faulty()).splitlines()
    codes = [read(line)[1]["title"].split()[0] for line in lines]
    assert codes == ["BNG201", "BNG404", "BNG406", "BNG103", "BNG101"]


def test_nothing_found_prints_nothing():
    assert render(plain()) == ""


@given(reports)
@settings(max_examples=60)
def test_any_report_is_one_readable_line_a_finding(report):
    text = render(report)
    assert text.count("\n") == len(report.findings)
    for line in text.split("\n")[:-1]:
        read(line)
