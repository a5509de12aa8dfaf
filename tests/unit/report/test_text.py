"""The report as text: the verdict, each finding in full, 80 columns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keras_bnguard.model.expected_mode import modes
from keras_bnguard.records import (
    DriftSnapshot,
    ExpectedMode,
    Finding,
    Mode,
    Outcome,
    OutcomeStatus,
    RunMode,
    Severity,
    SkipKind,
)
from keras_bnguard.report.report import Report
from keras_bnguard.report.text import brief, finding_text, mode_table, render, short, verdict
from tests.builders.facts import inventory, norm, stack
from tests.builders.reports import epoch_end

ERROR = Finding(
    "BNG404",
    "frozen-statistics-updated",
    Severity.ERROR,
    ("base/bn",),
    "moving statistics changed in 1 BN layer that must not be updated: base/bn, by up to 0.3 "
    "standard deviations in 10 steps with keras 3.15.1 on jax.",
    "load the pretrained statistics again:\n    bng.force_inference(model)",
    source="train.py:41",
)
WARNING = Finding("BNG406", "statistics-drifted", Severity.WARNING, ("bn",), "Far.", "freeze it")
INFO = Finding("BNG103", "info", Severity.INFO, ("bn",), "By the way.", "nothing")
MENDED = Finding(
    "BNG201", "ignored", Severity.ERROR, ("bn",), "Ignored.", "force it", repaired="forced"
)
BLIND = (
    Outcome("BNG101", OutcomeStatus.PASSED),
    Outcome("BNG601", OutcomeStatus.SKIPPED, "needs the optimizer"),
)


def report(*findings, **settings):
    return Report("net", stack("k3-jax"), findings, **settings)


@pytest.mark.parametrize(
    ("findings", "first"),
    [
        ((), "nothing found"),
        ((INFO,), "nothing found"),
        ((WARNING,), "check the findings before you trust this run: 1 warning"),
        ((ERROR, WARNING), "do not trust this run: 1 error, 1 warning"),
        ((MENDED,), "1 repaired, none left"),
        ((ERROR, MENDED), "do not trust this run: 1 error, 1 repaired"),
    ],
)
def test_the_verdict_counts_what_is_open(findings, first):
    assert verdict(report(*findings)) == first


def test_the_verdict_counts_the_rules_that_were_not_checked():
    assert verdict(report(outcomes=BLIND)) == "nothing found; 1 rule not checked"


def test_a_finding_has_code_severity_source_message_and_fix():
    assert finding_text(ERROR) == (
        "BNG404 frozen-statistics-updated [error]\n"
        "  at train.py:41\n"
        "  moving statistics changed in 1 BN layer that must not be updated: base/bn, by\n"
        "  up to 0.3 standard deviations in 10 steps with keras 3.15.1 on jax.\n"
        "  fix: load the pretrained statistics again:\n"
        "      bng.force_inference(model)"
    )


def test_a_repaired_finding_shows_what_was_done():
    lines = finding_text(MENDED).splitlines()
    assert lines[0] == "BNG201 ignored [repaired]"
    assert lines[1:] == ["  repaired: forced", "  before the repair: Ignored."]


def test_a_whole_report_reads_from_verdict_to_notes():
    known = inventory(norm("base/bn", frozen_ancestors=("base",), momentum=0.9), norm("head/bn"))
    text = render(
        report(
            ERROR,
            outcomes=(
                *BLIND,
                Outcome(
                    "BNG103",
                    OutcomeStatus.SKIPPED,
                    "info, select it to see it",
                    SkipKind.INFO_NOT_SELECTED,
                ),
            ),
            modes=modes(known),
            drift=(
                DriftSnapshot(epoch_end(0), 0, 5, {"base/bn": 0.1}),
                DriftSnapshot(epoch_end(1), 1, 10, {"base/bn": 0.29}),
            ),
            repairs=("BNG101: flags put into effect",),
            notes=("an internal error",),
        )
    )
    lines = text.splitlines()
    assert lines[:4] == [
        "keras_bnguard: do not trust this run: 1 error; 1 rule not checked",
        "model net, keras 3.15.1 on jax",
        "",
        "BNG404 frozen-statistics-updated [error]",
    ]
    assert "repair BNG101: flags put into effect" in lines
    assert "largest drift at end of epoch 2: 0.29 (Bhattacharyya distance)" in lines
    assert "not checked BNG601: needs the optimizer" in lines
    assert not any("BNG103" in line for line in lines)
    assert lines[-1] == "an internal error"
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_the_mode_table_lines_up_and_marks_what_differs():
    known = inventory(
        norm("base/bn", frozen_ancestors=("base",), momentum=0.9, at_default=True),
        norm("head/bn", trainable=False, momentum=None, at_default=None),
        norm("forced/bn", forced_inference=True),
    )
    assert mode_table(report(modes=modes(known))).splitlines() == [
        "BN layer   flag       expected   runs here           momentum  statistics",
        "base/bn    trainable  inference  training <--        0.9       default",
        "head/bn    frozen     inference  inference           -         not built",
        "forced/bn  trainable  inference  inference (forced)  0.99      trained",
        "<-- differs from what is expected",
    ]


def test_the_mark_is_explained_only_where_it_stands():
    assert "<--" not in mode_table(report(modes=modes(inventory(norm("bn")))))


def test_long_paths_keep_their_end():
    path = "a_model/with_a_very_long_name/and/deeply/nested/block7_bn"
    row = mode_table(report(modes=modes(inventory(norm(path))))).splitlines()[1]
    assert row.startswith("...")
    assert "nested/block7_bn " in row


@pytest.mark.parametrize("forced", [False, True])
def test_text_stays_within_80_columns(forced):
    long = "base/" + "very_long_block_name_" * 4 + "bn"
    row = Mode(
        long,
        True,
        True,
        ExpectedMode.INFERENCE,
        "why",
        RunMode.TRAINING,
        False,
        0.999,
        False,
        forced,
    )
    finding = Finding(
        "BNG404", "frozen-statistics-updated", Severity.ERROR, (), "word " * 60, "do it"
    )
    text = render(report(finding, modes=(row,), outcomes=BLIND, repairs=("a " * 60,)))
    assert max(len(line) for line in text.splitlines()) <= 80


def test_a_report_without_any_check_can_be_printed():
    assert str(Report("net", None)) == "keras_bnguard: no training was watched\nmodel net\n"


def test_a_run_ends_with_causes_and_what_to_type():
    lines = brief(report(ERROR, WARNING, outcomes=BLIND), 3, ("not seen: a loop",)).splitlines()
    assert lines[:3] == [
        "keras_bnguard: do not trust this run: 1 error, 1 warning; 1 rule not checked",
        "3 runs of model net, keras 3.15.1 on jax",
        "",
    ]
    assert lines[-5].startswith("not checked ")
    assert lines[-4] == "bng in a fix: import keras_bnguard as bng"
    assert lines[-3] == "more: bnguard explain BNG404, bnguard run --report report.html ..."
    assert lines[-2] == "not seen: a loop"
    assert lines[-1] == "bnguard: do not trust this run: 1 error, 1 warning; 1 rule not checked"
    assert max(map(len, lines)) <= 80


def test_info_findings_are_one_line_at_the_end_of_a_run():
    lines = brief(report(INFO), 1).splitlines()
    assert lines[-1] == f"1 note: {INFO.code}; -v shows them"
    assert len(lines) == 3


def test_an_audit_without_findings_is_a_few_lines():
    lines = short(report(outcomes=BLIND)).splitlines()
    assert len(lines) == 4
    assert lines[-1].startswith("1 rule not checked, ")
    assert lines[-1].endswith("-v lists them")


def test_a_run_with_nothing_found_takes_two_lines():
    assert brief(report(), 1) == (
        "keras_bnguard: nothing found\n1 run of model net, keras 3.15.1 on jax\n"
    )


def test_words_of_a_fix_are_wrapped_and_code_is_not():
    code = (
        "    model.compile(optimizer=optimizer, loss='binary_crossentropy', metrics=['accuracy'])"
    )
    text = finding_text(replace(ERROR, fix="after the last change of a flag, " * 4 + "\n" + code))
    assert f"\n  {code}" in text
    assert max(len(line) for line in text.splitlines() if "model.compile" not in line) <= 80
