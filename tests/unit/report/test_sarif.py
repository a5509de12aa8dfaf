"""The report as SARIF: what 2.1.0 asks for, and what a code host needs to show it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from keras_bnguard import __version__
from keras_bnguard.records import Finding, Severity
from keras_bnguard.report.report import Report
from keras_bnguard.report.sarif import as_sarif, render
from tests.builders.reports import DRIFTED, IGNORED, MENDED, NEWS, faulty, plain, reports, strict


def check(log):
    """What the standard requires of the parts that are written here."""
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "keras_bnguard"
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(set(ids)) == len(ids)
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"]
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is True
    for note in invocation["toolExecutionNotifications"]:
        assert note["level"] in ("note", "warning")
        assert isinstance(note["message"]["text"], str)
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert result["message"]["text"]
        assert len(result["partialFingerprints"]["layers/v1"]) == 64
        for location in result["locations"]:
            region = location.get("physicalLocation", {}).get("region", {"startLine": 1})
            assert region["startLine"] >= 1
            for place in location.get("logicalLocations", ()):
                assert isinstance(place["fullyQualifiedName"], str)
    return run


def result(finding):
    (only,) = as_sarif(plain(finding))["runs"][0]["results"]
    return only


def uri(source):
    finding = Finding("BNG101", "name", Severity.ERROR, (), "m", "f", source=source)
    return result(finding)["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]


def test_it_has_what_the_standard_requires():
    run = check(strict(render(faulty())))
    assert len(run["results"]) == 5
    assert run["tool"]["driver"]["version"] == __version__
    assert run["properties"]["model"] == "net"
    assert run["properties"]["verdict"].startswith("do not trust this run: 2 errors")


def test_causes_come_before_their_effects():
    order = [r["ruleId"] for r in as_sarif(faulty())["runs"][0]["results"]]
    assert order == ["BNG201", "BNG404", "BNG406", "BNG103", "BNG101"]


@pytest.mark.parametrize(
    ("finding", "level"),
    [(IGNORED, "error"), (DRIFTED, "warning"), (NEWS, "note"), (MENDED, "note")],
)
def test_the_level_follows_the_severity_until_it_is_repaired(finding, level):
    assert result(finding)["level"] == level


def test_a_result_points_at_the_line_and_names_the_layers():
    found = result(IGNORED)
    (location,) = found["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "train.py"},
        "region": {"startLine": 41},
    }
    assert location["logicalLocations"][0] == {
        "name": "block1_bn",
        "fullyQualifiedName": "backbone/block1_bn",
    }
    assert found["message"]["text"].startswith("trainable was set to False")
    assert "\nfix: compile again" in found["message"]["text"]


def test_a_finding_without_line_has_logical_locations_only():
    (location,) = result(DRIFTED)["locations"]
    assert set(location) == {"logicalLocations"}
    assert result(Finding("BNG607", "n", Severity.ERROR, (), "m", ""))["locations"] == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("train.py:3", "train.py"),
        ("my code/träin.py:3", "my%20code/tr%C3%A4in.py"),
        ("sub\\train.py:3", "sub/train.py"),
        ("/srv/a b/train.py:3", "file:///srv/a%20b/train.py"),
        ("C:\\a b\\train.py:3", "file:///C:/a%20b/train.py"),
        ("<ipython-input-1>:3", "%3Cipython-input-1%3E"),
    ],
)
def test_a_file_name_becomes_a_uri(source, expected):
    assert uri(source) == expected


def test_fingerprints_differ_between_findings_and_stay_the_same():
    prints = [
        r["partialFingerprints"]["layers/v1"] for r in as_sarif(faulty())["runs"][0]["results"]
    ]
    assert len(set(prints)) == len(prints)
    again = Finding(**{**vars(IGNORED), "message": "other words"})
    assert result(again)["partialFingerprints"] == result(IGNORED)["partialFingerprints"]


def test_what_was_not_checked_is_a_notification():
    (invocation,) = as_sarif(faulty())["runs"][0]["invocations"]
    notes = [n["message"]["text"] for n in invocation["toolExecutionNotifications"]]
    assert notes[0] == "repaired: BNG101: mended/bn forced into inference mode"
    assert notes[1] == "the guard could not read 1 layer"
    assert notes[2].startswith("not checked BNG501, BNG502: needs batches")
    assert len(notes) == 3


def test_where_no_training_was_seen_no_stack_is_named():
    (run,) = as_sarif(Report(model="no model", stack=None))["runs"]
    assert run["properties"]["stack"] is None


def test_a_run_without_findings_has_an_empty_list_of_results():
    run = check(strict(render(plain())))
    assert run["results"] == []


@given(reports)
@settings(max_examples=60)
def test_any_report_is_valid(report):
    check(strict(render(report)))
