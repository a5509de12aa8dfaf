"""Several reports as one: what tests/scenarios/auto/test_several.py leaves open."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from keras_bnguard.records import Outcome, OutcomeStatus
from keras_bnguard.report import github, json, sarif, text
from keras_bnguard.report.several import merged
from tests.builders.reports import (
    DRIFTED,
    IGNORED,
    MENDED,
    NEWS,
    faulty,
    plain,
    reports,
    snapshots,
    strict,
)


def named(model, *findings, note="fit 1", **more):
    return replace(plain(*findings, notes=(note,), **more), model=model)


def test_the_verdict_counts_a_finding_of_two_runs_once():
    both = merged([named("a", IGNORED), named("a", IGNORED, DRIFTED, note="fit 2")])
    assert text.verdict(both) == "do not trust this run: 1 error, 1 warning"
    first, second = both.findings
    assert first.message == f"{IGNORED.message} (runs 1, 2 of 2)"
    assert first.evidence["runs"] == ("fit 1", "fit 2")
    assert first.evidence["layers"] == 8
    assert second.evidence["runs"] == ("fit 2",)
    assert (first.fix, first.source) == (IGNORED.fix, IGNORED.source)


def test_repaired_and_open_stay_apart():
    both = merged([named("a", MENDED), named("a", replace(MENDED, repaired=None))])
    assert text.verdict(both) == "do not trust this run: 1 error, 1 repaired"


def test_the_worst_comes_first():
    both = merged([named("a", NEWS, DRIFTED), named("b", IGNORED)])
    assert [f.severity for f in both.findings] == ["error", "warning", "info"]


def test_layers_of_two_models_cannot_be_taken_for_each_other():
    both = merged([faulty("a"), faulty("b")])
    paths = [mode.path for mode in both.modes]
    assert len(set(paths)) == len(paths) == 8
    assert {path.split("/")[0] for path in paths} == {"a", "b"}
    assert both.drift == ()
    assert {f.message.split(":")[0] for f in both.findings} == {"a", "b"}


def test_two_runs_of_one_model_keep_its_paths_and_the_last_drift():
    later = replace(faulty(), drift=snapshots(2, 2))
    both = merged([faulty(), later])
    assert both.modes == faulty().modes
    assert both.drift == later.drift
    assert both.steps == 120
    assert both.model == "net"


def test_repairs_and_notes_are_listed_once():
    reports = [replace(faulty(), notes=("fit 1", "one layer could not be read")) for _ in range(3)]
    both = merged(reports)
    assert both.repairs == faulty().repairs
    assert both.notes == ("one layer could not be read",)


def test_the_stack_is_that_of_the_first_run_that_knew_it():
    both = merged([replace(named("a"), stack=None), named("a")])
    assert both.stack == plain().stack


def test_a_rule_skipped_in_one_run_and_clear_in_another():
    skipped = named("a", outcomes=(Outcome("BNG501", OutcomeStatus.SKIPPED, "needs P"),))
    clear = named("a", outcomes=(Outcome("BNG501", OutcomeStatus.PASSED),))
    (outcome,) = merged([skipped, clear]).outcomes
    assert outcome.code == "BNG501"
    assert merged([clear, skipped]).outcomes == (outcome,)


@given(st.lists(reports, max_size=3))
@settings(max_examples=40)
def test_any_reports_become_one_that_can_be_shown(several):
    one = merged(several)
    assert text.render(one)
    strict(json.render(one))
    strict(sarif.render(one))
    assert github.render(one).count("\n") == len(one.findings)
    assert one.steps == sum(report.steps for report in several)
