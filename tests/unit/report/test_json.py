"""The report as JSON: valid everywhere, with its schema's version."""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from keras_bnguard.model.expected_mode import modes
from keras_bnguard.records import DriftSnapshot, Finding, Outcome, OutcomeStatus, Severity
from keras_bnguard.report.json import SCHEMA_VERSION, as_dict, render
from keras_bnguard.report.report import Report
from tests.builders.facts import inventory, norm, stack
from tests.builders.reports import epoch_end

REPORT = Report(
    "net",
    stack("k3-torch"),
    findings=(
        Finding(
            "BNG402",
            "non-finite-statistics",
            Severity.ERROR,
            ("bn",),
            "NaN.",
            "stop",
            evidence={
                "nan": float("nan"),
                "inf": np.float32("-inf"),
                "count": np.int64(3),
                "flag": np.bool_(True),
                "one": np.array([1.5], np.float32),
                "pairs": ((1, 2.0),),
                3: None,
                "thing": object,
            },
        ),
    ),
    outcomes=(
        Outcome("BNG402", OutcomeStatus.FIRED),
        Outcome("BNG601", OutcomeStatus.SKIPPED, "needs O"),
    ),
    modes=modes(inventory(norm("bn"))),
    drift=(DriftSnapshot(epoch_end(0), 0, 4, {"bn": 0.5}, {"bn": float("inf")}),),
    steps=4,
)


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def parsed(report=REPORT):
    return json.loads(render(report), parse_constant=refuse)


def test_it_is_valid_json_with_a_schema_version():
    assert parsed()["schema_version"] == SCHEMA_VERSION == 1


def test_numbers_that_are_not_finite_become_strings():
    evidence = parsed()["findings"][0]["evidence"]
    assert evidence["nan"] == "nan"
    assert evidence["inf"] == "-inf"
    assert parsed()["drift"][0]["mean_shift"] == {"bn": "inf"}


def test_moments_become_their_text():
    assert parsed()["drift"][0]["moment"] == "end of epoch 0"
    assert parsed()["findings"][0]["moment"] == "start of training"


def test_numpy_values_become_plain_ones():
    evidence = parsed()["findings"][0]["evidence"]
    assert evidence["count"] == 3
    assert evidence["flag"] is True
    assert evidence["one"] == 1.5
    assert evidence["pairs"] == [[1, 2.0]]
    assert evidence["3"] is None
    assert evidence["thing"] == "<class 'object'>"


def test_every_field_of_a_report_is_in_it():
    names = {f.name for f in dataclasses.fields(Report)}
    assert set(parsed()) == names | {"schema_version", "skipped"}
    assert parsed()["skipped"] == [{"code": "BNG601", "needs": "needs O"}]
    assert parsed()["stack"]["behaviour"] == dataclasses.asdict(REPORT.stack.behaviour)
    assert parsed()["modes"][0]["path"] == "bn"


def test_keys_are_sorted_so_that_two_reports_can_be_compared_line_by_line():
    assert list(parsed()) == sorted(parsed())
    assert render(REPORT) == render(REPORT)
    assert as_dict(REPORT) == parsed()


def test_an_empty_report_is_valid_too():
    assert parsed(Report("net", None))["stack"] is None
