"""The run log of thousands of runs: every finding, every run, and no more memory."""

from __future__ import annotations

import sys

import pytest

from keras_bnguard.auto import AutoWarnings
from keras_bnguard.auto.run_log import KEEP_RUNS
from keras_bnguard.cli import run_summary
from keras_bnguard.records import Finding
from keras_bnguard.report.several import NAMED
from keras_bnguard.settings import Settings
from tests.builders.reports import plain

RUNS = 2 * KEEP_RUNS + 20


class Model:
    """Anything that can be referred to weakly."""


def finding(code, severity):
    return Finding(code, "name", severity, ("bn",), "what", "do this")


def state_of(runs, first=()):
    state = AutoWarnings()
    state.log.settings = Settings(fail_on="error")
    model = Model()
    for number in range(runs):
        found = first if number == 0 else (finding("BNG406", "warning"),)
        state.log.collect(model, plain(*found), "fit", "train.py:3")
    return state


@pytest.mark.parametrize("runs", [20, RUNS])
def test_an_error_of_the_first_run_counts_after_any_number_of_runs(runs):
    state = state_of(runs, first=(finding("BNG101", "error"),))
    total = state.all_runs()
    assert total.count == runs
    worst, other = total.report().findings
    assert (worst.code, worst.evidence["runs"]) == ("BNG101", ("fit",))
    assert (other.code, other.evidence["run_count"]) == ("BNG406", runs - 1)
    assert len(other.evidence["runs"]) <= NAMED
    assert other.message.endswith(f"(runs 2, 3, 4, 5, 6 and {runs - 6} more of {runs})")
    assert worst.message.endswith(f"(run 1 of {runs})")
    assert run_summary.fails(state)


def test_steps_of_all_runs_are_counted_and_the_newest_reports_are_whole():
    state = state_of(RUNS)
    assert state.all_runs().report().steps == RUNS * plain().steps
    assert [report.notes[0] for report in state.reports()[-2:]] == [
        f"fit {RUNS - 1} of this model",
        f"fit {RUNS} of this model",
    ]
    assert len(state.reports()) == KEEP_RUNS


def test_asking_twice_counts_no_run_twice():
    state = state_of(RUNS)
    assert state.all_runs().report() == state.all_runs().report()
    assert state.all_runs().count == RUNS


def test_switched_on_again_the_earlier_runs_are_forgotten():
    state = state_of(RUNS)
    state.log.clear()
    assert state.all_runs().count == 0
    assert not run_summary.fails(state)


def test_each_report_is_handed_to_who_collects_them():
    state, got = AutoWarnings(), []
    state.log.collected = got.append
    for _ in range(3):
        state.log.collect(Model(), plain(), "fit")
    assert got == state.reports()


def test_a_fork_neither_fails_nor_prints(monkeypatch, capsys):
    state = state_of(3, first=(finding("BNG101", "error"),))
    assert run_summary.fails(state)
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert state.is_forked
    assert not run_summary.fails(state)


def test_a_report_that_cannot_be_written_costs_no_finding(tmp_path, capsys):
    from keras_bnguard.report.formats import TEXT

    (tmp_path / "is a folder.json").mkdir()
    state = state_of(3, first=(finding("BNG101", "error"),))
    state.log.settings = Settings(report=str(tmp_path / "is a folder.json"))
    run_summary.print_summary(state, TEXT)
    printed = capsys.readouterr().err
    assert "BNG101" in printed
    assert any(line.startswith("bnguard run: the report ") for line in printed.splitlines())
    assert "report written to" not in printed


@pytest.mark.parametrize("closed", [True, False])
def test_a_closed_stderr_costs_no_report(tmp_path, monkeypatch, closed):
    from keras_bnguard.report.formats import TEXT

    stream = open(tmp_path / "out", "w")  # noqa: SIM115
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream if closed else None)
    state = state_of(3, first=(finding("BNG101", "error"),))
    state.log.settings = Settings(report=str(tmp_path / "r.json"))
    run_summary.print_summary(state, TEXT)
    assert "BNG101" in (tmp_path / "r.json").read_text()


def test_nothing_found_needs_something_watched(capsys):
    from keras_bnguard.report.formats import TEXT

    state = AutoWarnings()
    state.log.unseen.add("what was not seen")
    run_summary.print_summary(state, TEXT)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["keras_bnguard: no training was watched", "not seen: what was not seen"]
    assert lines[2:][0].startswith("not seen: no training was seen in this process")
    assert len(lines) == 3


def test_the_last_fit_of_a_model_decides_where_a_rule_counts_all_fits():
    state = AutoWarnings()
    slow, drifted = finding("BNG301", "warning"), finding("BNG406", "warning")
    model, other = Model(), Model()
    state.log.collect(model, plain(slow, drifted), "fit")
    assert [f.code for f in state.all_runs().report().findings] == ["BNG301", "BNG406"]
    state.log.collect(other, plain(), "fit")
    assert [f.code for f in state.all_runs().report().findings] == ["BNG301", "BNG406"]
    state.log.collect(model, plain(), "fit")
    assert [f.code for f in state.all_runs().report().findings] == ["BNG406"]
