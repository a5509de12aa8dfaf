"""Reports as one HTML file that needs nothing else: no network, no font, no script to be read."""

from __future__ import annotations

import base64
import datetime
import hashlib
import math
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import keras_bnguard
from keras_bnguard.errors import MissingExtraError
from keras_bnguard.records import DriftSnapshot, Finding, OutcomeStatus
from keras_bnguard.report import text
from keras_bnguard.report.drift_chart import drift_chart
from keras_bnguard.report.grouping import (
    grouped,
    info_not_selected,
    mode_rows,
    not_checked,
    one_line,
    parts_of,
    printable,
    trust,
    with_status,
)
from keras_bnguard.report.json import as_dict
from keras_bnguard.report.report import Report
from keras_bnguard.rules import ALL_RULES
from keras_bnguard.statistics.drift import MAX_DISTANCE

TEMPLATES = Path(__file__).with_name("templates")
# Columns of a heat map; a run with more checks shows evenly spaced ones, the first and the last.
COLUMNS = 24
# Layers a finding names before the rest is folded away.
LAYERS = 4
# Upper ends of the colour steps of the heat maps; docs/statistics.md has what goes with them.
DISTANCE_STEPS = (0.001, 0.01, 0.03, MAX_DISTANCE)
SHIFT_STEPS = (0.01, 0.1, 0.3, 1.0)
RATIO_STEPS = (0.01, 0.1, 0.3, 1.0)
MARKS = {"error": "✖", "warning": "▲", "info": "ℹ", "clear": "✔"}  # noqa: RUF001


def render(report: Report, phases: Sequence[Mapping[str, Any]] = ()) -> str:
    """A report as a whole page.

    Args:
        report: what to show.
        phases: `PhaseScheduler.history`, one row per epoch.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    return _fill("report.html", report, phases)


def fragment(report: Report) -> str:
    """The same as an element with its own style, for a page or a notebook that is there."""
    return _fill("fragment.html", report, ())


def _fill(template: str, report: Report, phases: Sequence[Mapping[str, Any]]) -> str:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError(
            "a report in HTML needs the package jinja2: pip install 'keras_bnguard[report]'"
        ) from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    script = _read("copy.js")
    page: str = environment.get_template(template).render(
        style=_read("style.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **_content(report, phases),
    )
    return page


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8").strip()


def _content(report: Report, phases: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    evidence = as_dict(report)["findings"]
    numbers = {id(f): plain["evidence"] for f, plain in zip(report.findings, evidence)}
    state = trust(report)
    return {
        "verdict": text.verdict(report),
        "state": state,
        "mark": MARKS[state],
        "model": one_line(report.model),
        "stack": None if report.stack is None else one_line(report.stack),
        "steps": report.steps,
        "made": _made(),
        "groups": [
            [_finding(f, numbers[id(f)]) for f in (group.cause, *group.effects)]
            for group in grouped(report.findings)
        ],
        "header": (*text.HEADER, "why"),
        "modes": [
            {
                "path": one_line(rows.label),
                "inside": [one_line(path) for path in rows.paths] if len(rows.paths) > 1 else [],
                "cells": [c.replace(" <--", "") for c in text.mode_cells(rows.first)],
                "why": one_line(rows.first.why),
                "agrees": rows.first.agrees,
            }
            for rows in mode_rows(report.modes)
        ],
        "docs": _docs(report.findings),
        "maps": _maps(report.drift),
        "chart": drift_chart(report.drift),
        "checks": len(report.drift),
        "phases": _phases(phases),
        "repairs": report.repairs,
        "notes": report.notes,
        "passed": with_status(report, OutcomeStatus.PASSED),
        "ignored": with_status(report, OutcomeStatus.IGNORED),
        "not_checked": [
            (", ".join(codes), reason) for reason, codes in not_checked(report).items()
        ],
        "info_not_selected": info_not_selected(report),
    }


def _made() -> str:
    """When, by which script and which version a page is written."""
    script = one_line(os.path.basename(sys.argv[0])) if sys.argv and sys.argv[0] else "a session"
    moment = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")
    return f"Written {moment} by {script} with keras_bnguard {keras_bnguard.__version__}"


def _finding(finding: Finding, evidence: Mapping[str, Any]) -> Dict[str, Any]:
    severity = finding.severity if finding.severity in MARKS else "info"
    paths = [one_line(path) for path in finding.layers]
    short = len(paths) <= LAYERS + 1
    return {
        "code": one_line(finding.code),
        "name": one_line(finding.name),
        "severity": one_line(finding.severity),
        "kind": "clear" if finding.repaired is not None else severity,
        "mark": MARKS["clear" if finding.repaired is not None else severity],
        "message": finding.message,
        "fix": [] if finding.repaired is not None else parts_of(finding.fix),
        "source": finding.source and one_line(finding.source),
        "moment": one_line(finding.moment.phrase),
        "repaired": finding.repaired,
        "layers": paths if short else paths[:LAYERS],
        "more_layers": [] if short else paths[LAYERS:],
        "numbers": _numbers(evidence),
    }


def _numbers(evidence: Mapping[str, Any]) -> List[Tuple[str, List[Tuple[str, str]]]]:
    """Evidence as rows; a mapping becomes rows of its own."""
    rows: List[Tuple[str, List[Tuple[str, str]]]] = []
    for key, value in evidence.items():
        if isinstance(value, Mapping):
            rows.append((one_line(key), [(one_line(k), _value(v)) for k, v in value.items()]))
        else:
            rows.append((one_line(key), [("", _value(value))]))
    return rows


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{one_line(k)}: {_value(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return one_line(value)


def _docs(findings: Sequence[Finding]) -> Dict[str, List[Tuple[str, str]]]:
    """Code of each finding -> (heading, text) of its rule's doc; one that is unknown has none."""
    codes = {finding.code for finding in findings}
    return {
        rule.code: [(f"{rule.code} {rule.name}", rule.title()), *rule.sections().items()]
        for rule in ALL_RULES
        if rule.code in codes
    }


# ---------------------------------------------------------------------- heat maps
def _maps(drift: Sequence[DriftSnapshot]) -> List[Dict[str, Any]]:
    """One table of layers by checks for each of the measures."""
    snapshots = _thinned(drift)
    return [
        {
            "title": title,
            "unit": unit,
            "columns": [(one_line(snapshot.moment), snapshot.steps) for snapshot in snapshots],
            "rows": _heat_rows([getattr(snapshot, name) for snapshot in snapshots], steps),
            "legend": _legend(steps, name == "distance"),
        }
        for title, unit, name, steps in (
            ("Distance of the statistics", "Bhattacharyya distance", "distance", DISTANCE_STEPS),
            ("Shift of the moving mean", "standard deviations", "mean_shift", SHIFT_STEPS),
            (
                "Change of the moving variance",
                "absolute natural logarithm of the ratio",
                "log_variance_ratio",
                RATIO_STEPS,
            ),
        )
        if any(getattr(snapshot, name) for snapshot in snapshots)
    ]


def _thinned(drift: Sequence[DriftSnapshot]) -> List[DriftSnapshot]:
    if len(drift) <= COLUMNS:
        return list(drift)
    return [drift[i * (len(drift) - 1) // (COLUMNS - 1)] for i in range(COLUMNS)]


def _heat_rows(
    snapshots: Sequence[Mapping[str, float]], steps: Sequence[float]
) -> List[Dict[str, Any]]:
    paths = dict.fromkeys(path for snapshot in snapshots for path in snapshot)
    return [
        {
            "path": one_line(path),
            "cells": [_cell(snapshot.get(path), steps) for snapshot in snapshots],
        }
        for path in paths
    ]


def _cell(value: Optional[float], steps: Sequence[float]) -> Dict[str, str]:
    if value is None:
        return {"shade": "none", "text": "-"}
    if not math.isfinite(value):
        return {"shade": "bad", "text": str(float(value))}
    return {"shade": f"h{sum(value >= step for step in steps)}", "text": f"{value:.2g}"}


def _legend(steps: Sequence[float], ends_at_limit: bool) -> List[Tuple[str, str]]:
    words = [f"below {steps[0]:g}"]
    words += [f"{low:g} to {high:g}" for low, high in zip(steps, steps[1:])]
    words.append(f"{steps[-1]:g} and more" + (": over the limit of BNG406" * ends_at_limit))
    return [*((f"h{i}", word) for i, word in enumerate(words)), ("bad", "not finite")]


# ------------------------------------------------------------------------- phases
def _phases(phases: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    """The rows of `PhaseScheduler.history` as a table: one column for each logged number."""
    logged = list(dict.fromkeys(key for row in phases for key in row.get("logs", {})))
    return {
        "header": ["epoch", "phase", "learning rate", "trainable", *map(one_line, logged)],
        "rows": [
            [
                _value(_counted(row.get("epoch"))),
                _value(row.get("phase")),
                _value(row.get("learning_rate")),
                _share(row.get("trainable_share")),
                *(_value(row.get("logs", {}).get(key)) for key in logged),
            ]
            for row in phases
        ],
    }


def _counted(epoch: Optional[int]) -> Optional[int]:
    """An epoch as Keras prints it, from 1."""
    return None if epoch is None else epoch + 1


def _share(share: Optional[float]) -> str:
    return "-" if share is None else f"{100 * share:.3g} %"
