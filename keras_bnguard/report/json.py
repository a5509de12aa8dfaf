"""Reports as JSON; the schema's version is in every file."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, Dict

from keras_bnguard.records import Report

SCHEMA_VERSION = 1


def as_dict(report: Report) -> Dict[str, Any]:
    """A report as plain dicts and lists; numbers that are not finite become strings."""
    body: Dict[str, Any] = _plain(dataclasses.asdict(report))
    body["schema_version"] = SCHEMA_VERSION
    body["skipped"] = [{"code": o.code, "needs": o.reason} for o in report.skipped]
    return body


def render(report: Report) -> str:
    """A report as JSON text, two spaces of indent."""
    return json.dumps(as_dict(report), indent=2, sort_keys=True) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item") and callable(value.item) and getattr(value, "size", 1) == 1:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)
