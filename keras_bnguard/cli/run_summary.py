"""What `bnguard run` says at the end: the findings to stderr, the report to its file."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, List, Optional

from keras_bnguard.errors import BNGuardError

FORMATS = ("text", "json", "github")
"""As in `report`, which is too slow to load before the script has begun."""


def fails(state: Any) -> bool:
    """Whether `--fail-on` matches a finding that was not repaired."""
    wanted = state.settings.fail_on
    if wanted is None:
        return False
    bad = {"error"} if wanted == "error" else {"error", "warning"}
    return any(
        finding.severity in bad and finding.repaired is None
        for report in state.reports()
        for finding in report.findings
    )


def tell(state: Any, form: Optional[str]) -> None:
    """At the very end: the findings to stderr, the report to its file.

    form: one of `FORMATS`, None to print nothing.
    """
    with contextlib.suppress(BrokenPipeError, ValueError):
        try:
            _report(state, form)
        except (OSError, BNGuardError) as error:
            print(f"bnguard run: {error}", file=sys.stderr)


def _report(state: Any, form: Optional[str]) -> None:
    if not (state.reports() or state.settings.report or state.faults):
        if form == "text":
            print("keras_bnguard: no training was seen in this process", file=sys.stderr)
        return
    from keras_bnguard.report.several import merged

    report = merged(state.reports())
    if state.settings.report:
        from keras_bnguard.report import write_report

        write_report(report, state.settings.report)
    if form == "text":
        from keras_bnguard.report.terminal import print_brief

        print_brief(report, len(state.reports()), last_lines(state, report), sys.stderr)
    elif form is not None:
        from keras_bnguard.report import rendered

        print(rendered(report, form), end="", file=sys.stderr)


def last_lines(state: Any, report: Any) -> List[str]:
    """How to repair what can be, what could not be seen, and a fault of ours."""
    from keras_bnguard.rules import ALL_RULES

    repairable = {rule.code for rule in ALL_RULES if rule.repair is not None}
    mend = sorted({f.code for f in report.findings if f.repaired is None} & repairable)
    lines = []
    if mend and not state.settings.fix:
        lines.append(f"without an edit: bnguard run --fix ... repairs {', '.join(mend)} in fit")
    lines += [f"not seen: {line}" for line in state.unseen]
    lines += ["keras_bnguard failed: " + fault.strip() for fault in state.faults[:1]]
    return lines
