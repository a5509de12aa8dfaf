"""Reports as one line a finding, `path:line: CODE message`, which editors and grep read."""

from __future__ import annotations

from keras_bnguard.report.grouping import grouped, one_line
from keras_bnguard.report.report import Report


def render(report: Report) -> str:
    """One line for each finding, causes before effects; empty without findings.

    A finding without a known line begins with the name of the model.
    """
    lines = []
    for group in grouped(report.findings):
        for finding in (group.cause, *group.effects):
            repaired = "" if finding.repaired is None else "[repaired] "
            place = finding.source or report.model
            lines.append(f"{one_line(place)}: {finding.code} {repaired}{one_line(finding.message)}")
    return "".join(f"{line}\n" for line in lines)
