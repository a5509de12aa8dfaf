"""One line a finding."""

from __future__ import annotations

from keras_bnguard.records import Finding
from keras_bnguard.report.concise import render
from tests.builders.reports import plain


def test_a_line_has_place_code_and_message():
    found = Finding("BNG201", "n", "error", ("bn",), "a\nb", "fix", source="train.py:41")
    assert render(plain(found)) == "train.py:41: BNG201 a\\nb\n"


def test_without_a_line_of_the_user_the_model_is_named_and_a_repair_is_marked():
    report = plain(Finding("BNG201", "n", "error", (), "m", "fix", repaired="forced"))
    assert render(report) == f"{report.model}: BNG201 [repaired] m\n"


def test_nothing_found_is_nothing():
    assert render(plain()) == ""
