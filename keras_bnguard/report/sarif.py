"""Reports as SARIF 2.1.0, which code hosts and editors show beside the code."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Dict, List, Tuple
from urllib.parse import quote

from keras_bnguard.records import Finding
from keras_bnguard.report.grouping import (
    grouped,
    not_checked,
    one_line,
    printable,
    split_source,
)
from keras_bnguard.report.json import as_dict
from keras_bnguard.report.report import Report
from keras_bnguard.report.text import verdict

LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def render(report: Report) -> str:
    """A report as SARIF text: one run, one result a finding, causes before effects."""
    return json.dumps(as_sarif(report), indent=2, sort_keys=True) + "\n"


def as_sarif(report: Report) -> Dict[str, Any]:
    """The same as plain dicts and lists.

    A finding with a known line points at that line; every finding names its layers as
    logical locations. A rule that was not checked becomes a notification of the invocation.
    """
    from keras_bnguard import __version__

    findings = [f for group in grouped(report.findings) for f in (group.cause, *group.effects)]
    evidence = {id(f): plain for f, plain in zip(report.findings, as_dict(report)["findings"])}
    rules = {f.code: f for f in sorted(findings, key=lambda f: f.code)}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "keras_bnguard",
                        "version": __version__,
                        "rules": [_rule(finding) for finding in rules.values()],
                    }
                },
                "invocations": [
                    {
                        "executionSuccessful": True,
                        "toolExecutionNotifications": _notifications(report),
                    }
                ],
                "results": [
                    _result(finding, list(rules).index(finding.code), evidence[id(finding)])
                    for finding in findings
                ],
                "properties": {
                    "verdict": verdict(report),
                    "model": one_line(report.model),
                    "stack": None if report.stack is None else one_line(report.stack),
                },
            }
        ],
    }


def _rule(finding: Finding) -> Dict[str, Any]:
    name = "".join(part.capitalize() for part in re.split(r"[^0-9A-Za-z]+", finding.name))
    return {
        "id": one_line(finding.code),
        "name": name or one_line(finding.code),
        "shortDescription": {"text": one_line(finding.name.replace("-", " ")) or "finding"},
    }


def _result(finding: Finding, index: int, plain: Dict[str, Any]) -> Dict[str, Any]:
    text = finding.message or finding.name
    if finding.repaired is not None:
        text = f"repaired: {finding.repaired}\nbefore the repair: {text}"
    elif finding.fix:
        text += f"\nfix: {finding.fix}"
    identity = "\n".join((finding.code, str(finding.moment), *finding.layers))
    result: Dict[str, Any] = {
        "ruleId": one_line(finding.code),
        "ruleIndex": index,
        "level": LEVELS.get(finding.severity, "note"),
        "message": {"text": printable(text) or finding.code or "finding"},
        "locations": _locations(finding),
        "partialFingerprints": {
            "layers/v1": hashlib.sha256(identity.encode("utf-8", "backslashreplace")).hexdigest()
        },
        "properties": {
            "moment": one_line(finding.moment),
            "evidence": plain["evidence"],
            "repaired": finding.repaired,
        },
    }
    if finding.repaired is not None:
        result["level"] = "note"
    return result


def _locations(finding: Finding) -> List[Dict[str, Any]]:
    logical = [
        {"name": one_line(path.rpartition("/")[2]), "fullyQualifiedName": one_line(path)}
        for path in finding.layers
    ]
    location: Dict[str, Any] = {"logicalLocations": logical} if logical else {}
    source = split_source(finding.source)
    if source is not None:
        file, line = source
        location["physicalLocation"] = {"artifactLocation": {"uri": _uri(file)}}
        if line is not None:
            location["physicalLocation"]["region"] = {"startLine": line}
    return [location] if location else []


def _uri(file: str) -> str:
    """A path as a URI reference: relative ones stay so, absolute ones get `file://`."""
    file = file.replace("\\", "/")
    if re.match("[A-Za-z]:/", file):
        return "file:///" + file[:2] + quote(file[2:], errors="backslashreplace")
    uri = quote(file, errors="backslashreplace")
    return "file://" + uri if file.startswith("/") else uri


def _notifications(report: Report) -> List[Dict[str, Any]]:
    notes: List[Tuple[str, str]] = [("note", f"repaired: {text}") for text in report.repairs]
    notes += [("warning", note) for note in report.notes]
    notes += [
        ("note", f"not checked {', '.join(codes)}: {reason}")
        for reason, codes in not_checked(report).items()
    ]
    return [{"level": level, "message": {"text": printable(text)}} for level, text in notes]
