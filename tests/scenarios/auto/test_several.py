"""Reports of several runs as one, and when a run counts as failed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keras_bnguard.auto import AutoWarnings
from keras_bnguard.cli import run, run_summary
from keras_bnguard.records import Finding, Outcome, OutcomeStatus, Severity
from keras_bnguard.report.report import Report
from keras_bnguard.report.several import merged
from keras_bnguard.settings import Settings


def finding(code, severity="error", **more):
    return Finding(code, "name", Severity(severity), ("bn",), "what", "do this", **more)


def report(model, *findings, note="fit", **more):
    return Report(model=model, stack=None, findings=findings, notes=(note,), steps=2, **more)


def test_one_report_stays_as_it_is():
    one = report("a", finding("BNG101"))
    assert merged([one]) is one


def test_none_at_all_is_an_empty_report():
    assert merged([]).findings == ()


def test_findings_name_their_model_and_errors_come_first():
    both = merged([report("a", finding("BNG406", "warning")), report("b", finding("BNG101"))])
    assert [(f.code, f.message) for f in both.findings] == [
        ("BNG101", "b: what (run 2 of 2)"),
        ("BNG406", "a: what (run 1 of 2)"),
    ]
    assert both.findings[0].evidence["model"] == "b"
    assert both.model == "a, b"
    assert both.steps == 4


def test_the_same_finding_in_several_runs_is_listed_once():
    runs = [report("a", finding("BNG101"), note=f"fit {i} of this model") for i in (1, 2, 3)]
    (found,) = merged(runs).findings
    assert found.message == "what (runs 1, 2, 3 of 3)"
    assert found.evidence["runs"] == tuple(f"fit {i} of this model" for i in (1, 2, 3))


def test_a_rule_that_fired_in_one_run_has_fired():
    runs = [
        report(
            "a",
            outcomes=(
                Outcome("BNG101", OutcomeStatus.PASSED),
                Outcome("BNG501", OutcomeStatus.SKIPPED, "P"),
            ),
        ),
        report(
            "b",
            outcomes=(
                Outcome("BNG101", OutcomeStatus.FIRED),
                Outcome("BNG501", OutcomeStatus.SKIPPED, "P"),
            ),
        ),
    ]
    assert [o.status for o in merged(runs).outcomes] == ["fired", "skipped"]


@pytest.mark.parametrize(
    ("severity", "fail_on", "fails"),
    [
        ("error", None, False),
        ("error", "error", True),
        ("warning", "error", False),
        ("warning", "warning", True),
        ("info", "warning", False),
    ],
)
def test_fail_on_counts_findings_of_that_severity_and_worse(severity, fail_on, fails):
    state = AutoWarnings()
    state.log.settings = Settings(fail_on=fail_on)
    state.log.reports.append(report("a", finding("BNG101", severity)))
    assert run_summary.fails(state) is fails
    state.log.reports[0] = replace(
        state.log.reports[0], findings=(finding("BNG101", severity, repaired="mended"),)
    )
    assert run_summary.fails(state) is False


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["a.py", "--fix"], ([], None, ["a.py", "--fix"])),
        (["--report", "r.json", "a.py", "-m"], (["--report", "r.json"], None, ["a.py", "-m"])),
        (["--fix", "-m", "pack.age", "-m"], (["--fix"], "pack.age", ["-m"])),
        (["-mpack", "x"], ([], "pack", ["x"])),
        (["--quiet", "--", "-odd.py"], (["--quiet"], None, ["-odd.py"])),
        (["-m"], ([], "", [])),
        ([], ([], None, [])),
    ],
)
def test_our_words_end_where_the_scripts_begin(argv, expected):
    assert run.split(argv) == expected
