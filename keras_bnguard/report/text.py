"""Reports as plain text: a verdict first, then each cause with its numbers and its fix."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from typing import List, Sequence, Set

from keras_bnguard.records import Finding, Mode, OutcomeStatus, Verification, WeightCounts
from keras_bnguard.records.report import Severity
from keras_bnguard.report.grouping import (
    ModeRows,
    grouped,
    mode_rows,
    not_checked,
    one_line,
    printable,
    with_status,
)
from keras_bnguard.report.report import Report

WIDTH = 80
# A mode table with more rows than this is folded in a report.
MANY = 12
HEADER = ("BN layer", "flag", "expected", "runs here", "momentum", "statistics")


def finding_text(finding: Finding, width: int = WIDTH) -> str:
    """One finding: code and name, what was measured, and what to type.

    Args:
        finding: the finding.
        width: columns of prose; code stays in one piece. Defaults to `WIDTH`.
    """
    return "\n".join(_finding(finding, finding.fix, width))


def _finding(finding: Finding, fix: str, width: int = WIDTH) -> List[str]:
    state = finding.severity if finding.repaired is None else "repaired"
    lines = [one_line(f"{finding.code} {finding.name} [{state}]")]
    if finding.source:
        lines.append(f"  at {one_line(finding.source)}")
    if finding.repaired is not None:
        lines += wrap(f"repaired: {printable(finding.repaired)}", width=width)
        # What was found is history, and what is printed to type would repair it once more.
        return lines + wrap(f"before the repair: {printable(finding.message)}", width=width)
    lines += wrap(printable(finding.message), width=width)
    for i, line in enumerate(printable(fix).split("\n") if fix else ()):
        words = f"fix: {line}" if i == 0 else line
        # Code stays in one piece, so that it can be copied.
        lines += [f"  {words}"] if line.startswith("    ") else wrap(words, width=width)
    return lines


def verdict(report: Report) -> str:
    """The first line of a report: whether the run can be trusted."""
    open_ = [f for f in report.warnings_and_errors if f.repaired is None]
    errors = sum(f.severity is Severity.ERROR for f in open_)
    repaired = sum(f.repaired is not None for f in report.findings)
    if errors:
        text = f"do not trust this run: {_count(errors, 'error')}"
        if len(open_) > errors:
            text += f", {_count(len(open_) - errors, 'warning')}"
    elif open_:
        text = f"check the findings before you trust this run: {_count(len(open_), 'warning')}"
    elif report.watched:
        text = "nothing found"
    else:
        text = "no training was watched"
    if repaired:
        text = f"{repaired} repaired, none left" if not open_ else f"{text}, {repaired} repaired"
    skipped = sum(map(len, not_checked(report).values()))
    return f"{text}; {_count(skipped, 'rule')} not checked" if skipped else text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def render(report: Report) -> str:
    """A whole report for a terminal of 80 columns, without colour."""
    lines = [*_hang(f"keras_bnguard: {verdict(report)}")]
    lines += [*_hang(about(report)), ""]
    lines += _findings(report.findings)
    if report.modes:
        lines += [_table(report, fold=len(report.modes) > MANY), ""]
    for text in report.repairs:
        lines += _hang(f"repair {printable(text)}")
    lines += facts(report)
    lines += [printable(note) for note in report.notes]
    return "\n".join(lines).rstrip() + "\n"


def about(report: Report) -> str:
    """The second line: which model, on which stack."""
    stack = "" if report.stack is None else f", {one_line(report.stack)}"
    return f"model {one_line(report.model)}{stack}" if report.model else "no model"


def brief(report: Report, runs: int, last: Sequence[str] = ()) -> str:
    """What a run ends with: verdict, findings by cause, what was not checked, what to type.

    runs: how many runs the report is of. last: lines for the end.
    """
    open_ = replace(report, findings=report.warnings_and_errors)
    lines = [*_hang(f"keras_bnguard: {verdict(report)}")]
    if runs:
        lines += _hang(f"{_count(runs, 'run')} of {about(report)}")
    if open_.findings:
        lines += ["", *_findings(open_.findings)]
    lines += [*brief_end(report), *last]
    if open_.findings:
        lines += _hang(f"bnguard: {verdict(report)}")
    return "\n".join(lines).rstrip() + "\n"


def short(report: Report) -> str:
    """What `bnguard audit` prints: verdict, findings, and one line about what was not checked."""
    lines = [*_hang(f"keras_bnguard: {verdict(report)}"), *_hang(about(report))]
    lines.append(
        f"{len(report.modes)} BN: {sum(mode.agrees for mode in report.modes)} will run "
        "in the mode that their flags ask for"
    )
    if report.findings:
        lines += ["", *_findings(report.findings)]
    skipped = sum(map(len, not_checked(report).values()))
    if skipped:
        lines += _hang(
            f"{_count(skipped, 'rule')} not checked, as they need training or data; -v lists them"
        )
    return "\n".join([*lines, *map(printable, report.notes)]).rstrip() + "\n"


def brief_end(report: Report) -> List[str]:
    """What was not checked and why, and which commands print more."""
    lines: List[str] = []
    for reason, codes in not_checked(report).items():
        lines += _hang(f"not checked {', '.join(codes)}: {printable(reason)}")
    lines += _import(report)
    notes = tuple(dict.fromkeys(f.code for f in report.findings if f.severity == "info"))
    if notes:
        lines += _hang(f"{_count(len(notes), 'note')}: {', '.join(notes)}; -v shows them")
    open_ = [f.code for f in report.findings if f.severity != "info"]
    if open_:
        code = open_[0]
        lines.append(f"more: bnguard explain {code}, bnguard run --report report.html ...")
    return lines


def _import(report: Report) -> List[str]:
    """What a new user has to know to type a fix."""
    used = any(_uses_name(f.fix) for f in report.findings if f.repaired is None)
    return ["bng in a fix: import keras_bnguard as bng"] if used else []


def _uses_name(fix: str) -> bool:
    return "bng." in fix and "import keras_bnguard as bng" not in fix


def _findings(findings: Sequence[Finding]) -> List[str]:
    """The groups: a cause in full, what follows from it further in; no fix twice."""
    lines: List[str] = []
    printed: Set[str] = set()

    def part(finding: Finding, width: int = WIDTH) -> List[str]:
        known = "\n" in finding.fix and finding.fix in printed
        printed.add(finding.fix)
        return _finding(finding, "as above" if known else finding.fix, width)

    for group in grouped(findings):
        lines += part(group.cause)
        for effect in group.effects:
            first, *rest = part(effect, WIDTH - 2)
            lines += ["", f"  which led to {first}", *(f"  {line}" for line in rest)]
        lines.append("")
    return lines


def facts(report: Report) -> List[str]:
    """Drift at the last check, and how the rules ended, in a few lines."""
    lines: List[str] = _import(report)
    if report.weights is not None:
        lines += _hang(_weights(report.weights))
    if report.drift:
        last = report.drift[-1]
        lines += _hang(
            f"largest drift at {one_line(last.moment)}: {last.total:.3g} (Bhattacharyya distance)"
        )
    passed, ignored = (
        with_status(report, OutcomeStatus.PASSED),
        with_status(report, OutcomeStatus.IGNORED),
    )
    if passed:
        lines += _hang(f"passed: {_count(len(passed), 'rule')}")
    if ignored:
        lines += _hang(f"ignored by your settings: {', '.join(ignored)}")
    for reason, codes in not_checked(report).items():
        lines += _hang(f"not checked {', '.join(codes)}: {printable(reason)}")
    return lines


def _weights(counts: WeightCounts) -> str:
    norm = f"gamma and beta of BN: {counts.norm_trainable:,} of {counts.norm_total:,}"
    return f"training in fit: {counts.trainable:,} of {counts.total:,} weights ({norm})"


def mode_table(report: Report) -> str:
    """Every BN: its flag, the mode it should run in, and the mode it will run in here."""
    return _table(report, fold=False)


_FORCED = {
    None: " (forced)",
    Verification.NOT_CALLED: " (forced)",
    Verification.NOT_MEASURED: " (forced)",
    Verification.VERIFIED: " (forced, verified)",
    Verification.UNCHANGED: " (forced, unchanged)",
    Verification.FAILED: " (forcing failed)",
}


def mode_cells(mode: Mode) -> Sequence[str]:
    """The cells of a row of the mode table after the path."""
    return (
        "trainable" if mode.trainable else "frozen",
        mode.expected.value,
        mode.will.value
        + (_FORCED[mode.verification] if mode.forced_inference else "")
        + ("" if mode.agrees else " <--"),
        "-" if mode.momentum is None else f"{mode.momentum:g}",
        {True: "default", False: "trained", None: "not built"}[mode.at_default],
    )


def table_rows(report: Report, fold: bool, width: int = WIDTH) -> List[Sequence[str]]:
    """The rows of the mode table, paths cut to fit; neighbours are folded where asked."""
    rows = mode_rows(report.modes) if fold else [ModeRows(m, (m.path,)) for m in report.modes]
    cells = [mode_cells(row.first) for row in rows]
    others = [max(map(len, column)) for column in zip(HEADER[1:], *cells)]
    room = max(width - sum(others) - 2 * len(others), len(HEADER[0]))
    return [(shorten(one_line(row.label), room), *cell) for row, cell in zip(rows, cells)]


def _table(report: Report, fold: bool) -> str:
    rows = [HEADER, *table_rows(report, fold)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    ]
    if not all(mode.agrees for mode in report.modes):
        lines.append("<-- differs from what is expected")
    return "\n".join(lines)


def shorten(path: str, width: int) -> str:
    """The end of a path, where the path is too long: layers differ there."""
    return path if len(path) <= width else "..." + path[-(width - 3) :]


def wrap(text: str, first: str = "  ", rest: str = "  ", width: int = WIDTH) -> List[str]:
    """Lines of at most `width`, each with its indent; a word that is longer stays whole."""
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False
    )


def _hang(text: str) -> List[str]:
    return wrap(text, "")
