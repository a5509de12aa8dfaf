"""The report as JSON satisfies its schema, and the schema asks for what a report has."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings

from keras_bnguard.records import DriftSnapshot, Finding, Mode, Outcome, Stack
from keras_bnguard.report.json import SCHEMA_VERSION, as_dict, render, schema
from keras_bnguard.report.report import Report
from tests.builders.reports import PHASES, faulty, hostile, plain, reports, strict

PARTS = {
    "finding": Finding,
    "outcome": Outcome,
    "mode": Mode,
    "drift_snapshot": DriftSnapshot,
    "stack": Stack,
}


@pytest.fixture(scope="module")
def validator():
    import jsonschema

    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


@pytest.mark.parametrize("part", PARTS)
def test_the_schema_knows_every_field(part):
    fields = {field.name for field in dataclasses.fields(PARTS[part])}
    described = schema()["$defs"][part]
    assert set(described["properties"]) == fields
    assert set(described["required"]) == fields


def test_the_schema_knows_every_field_of_a_report():
    fields = {field.name for field in dataclasses.fields(Report)} | {"schema_version", "skipped"}
    assert set(schema()["properties"]) == set(schema()["required"]) == fields
    assert schema()["properties"]["schema_version"] == {"const": SCHEMA_VERSION}


def test_every_reference_of_the_schema_leads_somewhere():
    def references(part):
        if isinstance(part, dict):
            yield from ([part["$ref"]] if "$ref" in part else [])
            part = list(part.values())
        if isinstance(part, list):
            for inner in part:
                yield from references(inner)

    known = {f"#/$defs/{name}" for name in schema()["$defs"]}
    assert set(references(schema())) == known


@pytest.mark.needs_extra
@pytest.mark.parametrize("report", [plain(), Report("net", None), faulty(), hostile()])
def test_reports_satisfy_it(validator, report):
    validator.validate(strict(render(report)))


@pytest.mark.needs_extra
@given(report=reports)
@settings(max_examples=60)
def test_any_report_satisfies_it(validator, report):
    validator.validate(strict(render(report)))


@pytest.mark.needs_extra
@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"model": None},
        {"steps": 1.5},
        {"drift": [{}]},
        {"findings": [{"code": "BNG101"}]},
        {"modes": [{"path": "bn"}]},
        {"outcomes": [{"code": "E501", "status": "passed", "reason": ""}]},
        {"outcomes": [{"code": "BNG101", "status": "fine", "reason": ""}]},
    ],
)
def test_what_is_no_report_does_not(validator, change):
    assert not validator.is_valid({**as_dict(faulty()), **change})


@pytest.mark.needs_extra
def test_fields_to_come_are_no_fault(validator):
    validator.validate({**as_dict(faulty()), "epochs": list(map(str, PHASES))})
