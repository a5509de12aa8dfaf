"""Reports as annotations of GitHub Actions: one line a finding, shown at the user's own line."""

from __future__ import annotations

from keras_bnguard.records import Finding
from keras_bnguard.report.grouping import grouped, one_line, printable, split_source
from keras_bnguard.report.report import Report

LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def render(report: Report) -> str:
    """One workflow command for each finding, causes before effects; empty without findings."""
    findings = [f for group in grouped(report.findings) for f in (group.cause, *group.effects)]
    return "".join(annotation(finding) + "\n" for finding in findings)


def annotation(finding: Finding) -> str:
    """`::error file=train.py,line=41,title=BNG101 name::message`.

    A repaired finding is a notice. Message and properties are escaped as the runner undoes it.
    """
    level = "notice" if finding.repaired is not None else LEVELS.get(finding.severity, "notice")
    properties = []
    source = split_source(finding.source)
    if source is not None:
        properties.append(f"file={_property(source[0])}")
        if source[1] is not None:
            properties.append(f"line={source[1]}")
    properties.append(f"title={_property(f'{finding.code} {finding.name}')}")
    text = finding.message
    if finding.repaired is not None:
        text = f"repaired: {finding.repaired}\nbefore the repair: {text}"
    elif finding.fix:
        text += f"\nfix: {finding.fix}"
    return f"::{level} {','.join(properties)}::{_data(text)}"


def _data(text: str) -> str:
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(one_line(text)).replace(":", "%3A").replace(",", "%2C")
