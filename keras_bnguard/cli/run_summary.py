"""What `bnguard run` prints at the end: the findings to stderr, the report to its file."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, List, Optional

from keras_bnguard.auto.failing import failing
from keras_bnguard.errors import BNGuardError
from keras_bnguard.report.formats import Format

if TYPE_CHECKING:  # The script has not loaded NumPy yet, and may never do.
    from keras_bnguard.auto import AutoWarnings
    from keras_bnguard.report.report import Report


def fails(state: AutoWarnings) -> bool:
    """Whether `--fail-on` matches a finding that was not repaired."""
    findings = [finding for report in state.reports() for finding in report.findings]
    return bool(failing(findings, state.settings.fail_on))


def print_summary(state: AutoWarnings, form: Optional[Format]) -> None:
    """Print the findings, and write the report where one is asked for. Never raises.

    Args:
        state: the automatic warnings of this process.
        form: the format to print in, None to print nothing.
    """
    with contextlib.suppress(BrokenPipeError, ValueError):
        try:
            _print_summary(state, form)
        except (OSError, BNGuardError) as error:
            print(f"bnguard run: {error}", file=sys.stderr)


def _print_summary(state: AutoWarnings, form: Optional[Format]) -> None:
    if not (state.reports() or state.settings.report or state.faults):
        if form is not None:
            form.note("keras_bnguard: no training was seen in this process", sys.stderr)
            for line in state.unseen:
                form.note(f"not seen: {line}", sys.stderr)
        return
    from keras_bnguard.report.several import merged

    report = merged(state.reports())
    if state.settings.report:
        report.save(state.settings.report)
    if form is not None:
        form.print_summary(report, len(state.reports()), last_lines(state, report), sys.stderr)


def last_lines(state: AutoWarnings, report: Report) -> List[str]:
    """What can be repaired and how, what could not be seen, and an internal error."""
    from keras_bnguard.rules import ALL_RULES

    repairable = {rule.code for rule in ALL_RULES if rule.repair is not None}
    codes = sorted({f.code for f in report.findings if f.repaired is None} & repairable)
    lines = []
    if codes and not state.settings.fix:
        lines.append(f"without an edit: bnguard run --fix ... repairs {', '.join(codes)} in fit")
    lines += [f"not seen: {line}" for line in state.unseen]
    lines += ["keras_bnguard failed: " + fault.strip() for fault in state.faults[:1]]
    return lines
