"""Reports as plain text: a verdict first, then each finding with its numbers and its fix."""

from __future__ import annotations

import textwrap
from typing import List, Sequence

from keras_bnguard.records import Finding, Report

WIDTH = 80


def finding_text(finding: Finding) -> str:
    """One finding: code and name, what was measured, and what to type."""
    lines = [f"{finding.code} {finding.name} [{finding.severity}]"]
    if finding.source:
        lines.append(f"  at {finding.source}")
    lines += _wrap(finding.message)
    if finding.repaired:
        lines += _wrap(f"repaired: {finding.repaired}")
    lines.append("  fix: " + finding.fix.replace("\n", "\n  "))
    return "\n".join(lines)


def verdict(report: Report) -> str:
    """The first line: whether the run can be trusted."""
    open_ = [f for f in report.findings if f.repaired is None and f.severity != "info"]
    errors = sum(f.severity == "error" for f in open_)
    mended = sum(f.repaired is not None for f in report.findings)
    if errors:
        text = f"do not trust this run: {errors} error(s), {len(open_) - errors} warning(s)"
    elif open_:
        text = f"look before you trust this run: {len(open_)} warning(s)"
    else:
        text = "nothing found"
    if mended:
        text += f", {mended} repaired"
    skipped = len(report.skipped)
    return f"{text}; {skipped} rule(s) could not look" if skipped else text


def render(report: Report) -> str:
    """A whole report for a terminal of 80 columns, without colour."""
    lines = [*_hang(f"keras_bnguard: {verdict(report)}")]
    lines += [*_hang(f"model {report.model}, {report.stack}"), ""]
    for finding in report.findings:
        lines += [finding_text(finding), ""]
    if report.modes:
        lines += [mode_table(report), ""]
    for text in report.repairs:
        lines += _hang(f"repair {text}")
    if report.drift:
        last = report.drift[-1]
        lines.append(f"largest mean shift at {last.moment}: {last.total:.3g} standard deviations")
    for outcome in report.skipped:
        if "info" not in outcome.reason:
            lines += _hang(f"not checked {outcome.code}: {outcome.reason}")
    lines += list(report.notes)
    return "\n".join(lines).rstrip() + "\n"


def mode_table(report: Report) -> str:
    """Every BN: frozen or live, what it is meant to run as, what it will run as here."""
    header = ("BN layer", "flag", "meant", "runs here", "momentum", "statistics")
    rows: List[Sequence[str]] = [header]
    for mode in report.modes:
        rows.append(
            (
                mode.path,
                "live" if mode.trainable else "frozen",
                mode.meant,
                ("held " if mode.held else "") + mode.will + ("" if mode.agrees else " <--"),
                "-" if mode.momentum is None else f"{mode.momentum:g}",
                {True: "default", False: "trained", None: "not built"}[mode.at_default],
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - 2 * len(header[1:]))
    lines = [
        "  ".join(
            cell.ljust(width)
            for cell, width in zip((_shorten(row[0], widths[0]), *row[1:]), widths)
        ).rstrip()
        for row in rows
    ]
    if not all(mode.agrees for mode in report.modes):
        lines.append("<-- is not what was meant")
    return "\n".join(lines)


def _shorten(path: str, width: int) -> str:
    return path if len(path) <= width else "..." + path[-(width - 3) :]


def _hang(text: str) -> List[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False)


def _wrap(text: str) -> List[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False
    )
