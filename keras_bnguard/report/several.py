"""Several reports as one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Tuple

from keras_bnguard.records import Finding
from keras_bnguard.report.report import Report
from keras_bnguard.rules.evaluate import merge_outcomes


def merged(several: List[Report]) -> Report:
    """Several reports as one: each finding names its model and the runs it was found in.

    One report stays as it is. The same finding in several runs of a model is listed once.
    """
    if len(several) == 1:
        return several[0]
    findings: Dict[Any, Finding] = {}
    runs: Dict[Any, List[str]] = {}
    for report in several:
        run = report.notes[0] if report.notes else "fit"
        for finding in report.findings:
            key = (report.model, finding.code, finding.layers, finding.repaired)
            findings.setdefault(key, finding)
            runs.setdefault(key, []).append(run)
    models = tuple(dict.fromkeys(report.model for report in several))
    findings_of_all = []
    for key, finding in findings.items():
        where = f"{key[0]}: " if len(models) > 1 else ""
        evidence = {**finding.evidence, "model": key[0], "runs": tuple(runs[key])}
        again = f" (in {len(runs[key])} runs)" if len(runs[key]) > 1 else ""
        findings_of_all.append(
            replace(finding, message=f"{where}{finding.message}{again}", evidence=evidence)
        )
    outcomes: Tuple[Any, ...] = ()
    modes: Dict[str, Any] = {}
    for report in several:
        outcomes = merge_outcomes(outcomes, report.outcomes)
        prefix = f"{report.model}/" if len(models) > 1 else ""
        modes.update({prefix + m.path: replace(m, path=prefix + m.path) for m in report.modes})
    order = {"error": 0, "warning": 1, "info": 2}
    return Report(
        model=", ".join(models) or "no model",
        stack=next((r.stack for r in several if r.stack is not None), None),
        findings=tuple(sorted(findings_of_all, key=lambda f: order[f.severity])),
        outcomes=outcomes,
        modes=tuple(modes.values()),
        drift=several[-1].drift if len(models) == 1 and several else (),
        repairs=tuple(dict.fromkeys(text for r in several for text in r.repairs)),
        notes=tuple(dict.fromkeys(text for r in several for text in r.notes[1:])),
        steps=sum(r.steps for r in several),
    )
