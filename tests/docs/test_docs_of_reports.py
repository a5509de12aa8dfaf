"""docs/reports.md names what a report holds; a new key without a word there is a failure."""

from __future__ import annotations

import re

import pytest

from keras_bnguard.report.formats import ENDINGS, PRINTED, TEXT
from keras_bnguard.report.json import SCHEMA_VERSION, schema
from tests import ROOT

PAGE = (ROOT / "docs" / "reports.md").read_text(encoding="utf-8")


def rows(heading):
    """First cells of the tables under a heading."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    cells = re.findall(r"^\| (`[^|]*`) \|", section, flags=re.M)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_every_key_of_a_report_and_of_a_finding_is_described():
    known = schema()
    expected = {*known["properties"], *known["$defs"]["finding"]["properties"]}
    assert rows("JSON") == expected


@pytest.mark.parametrize("part", ["outcome", "mode", "drift_snapshot", "stack"])
def test_every_key_of_the_parts_is_named(part):
    for key in schema()["$defs"][part]["properties"]:
        assert f"`{key}`" in PAGE, key


def test_the_version_and_the_place_of_the_schema_are_right():
    assert f"`schema_version` is {SCHEMA_VERSION}." in PAGE
    (path,) = re.findall(r"\]\(\.\./(keras_bnguard/[^)]*)\)", PAGE)
    assert (ROOT / path).is_file()


def test_every_format_is_named():
    for ending in ENDINGS:
        assert f"r{ending}" in PAGE
    for name in set(PRINTED) - {TEXT.name}:
        assert f"--output-format {name}" in PAGE
