"""Reports as JSON; the schema's version is in every file, the schema is `schema.json` beside it."""

from __future__ import annotations

import dataclasses
import json
import math
from enum import Enum
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from keras_bnguard.records import Finding, Moment
from keras_bnguard.report.grouping import split_source
from keras_bnguard.report.report import Report

# Grows when a field is taken away or changes its meaning; a new field alone keeps it.
SCHEMA_VERSION = 1


def schema() -> Dict[str, Any]:
    """The JSON Schema (draft 2020-12) that every report satisfies."""
    text = Path(__file__).with_name("schema.json").read_text(encoding="utf-8")
    found: Dict[str, Any] = json.loads(text)
    return found


def as_dict(report: Report) -> Dict[str, Any]:
    """A report as plain dicts and lists; numbers that are not finite become strings."""
    body: Dict[str, Any] = _plain(report)
    body["schema_version"] = SCHEMA_VERSION
    body["findings"] = [_finding(finding) for finding in report.findings]
    body["skipped"] = [{"code": o.code, "needs": o.reason} for o in report.skipped]
    return body


def render(report: Report) -> str:
    """A report as JSON text, two spaces of indent."""
    return json.dumps(as_dict(report), indent=2, sort_keys=True) + "\n"


def _finding(finding: Finding) -> Dict[str, Any]:
    body: Dict[str, Any] = _plain(finding)
    body["source"] = _source(finding.source)
    return body


def _source(source: Optional[str]) -> Optional[Dict[str, Any]]:
    parts = split_source(source)
    return None if parts is None else {"file": parts[0], "line": parts[1]}


def _plain(value: Any) -> Any:
    if isinstance(value, Moment):
        return value.from_zero
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(v) for v in value), key=str)
    if hasattr(value, "tolist") and hasattr(value, "size") and not isinstance(value, type):
        # NumPy: one value becomes that value, several become a list.
        return _plain(value.item() if value.size == 1 else value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)
