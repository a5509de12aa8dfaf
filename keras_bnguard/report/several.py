"""Several reports as one."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Dict, Iterable, List, Optional, Tuple

from keras_bnguard.records import DriftSnapshot, Finding, Mode, Outcome, Stack
from keras_bnguard.report.report import Report
from keras_bnguard.rules.evaluate import merge_outcomes

NAMED = 20
"""So many runs of a finding, and models, are listed by name; all are counted."""
SHOWN = 5
"""So many numbers of runs stand in the message of a finding."""
_KEPT = 2000
"""So many rows of modes, and notes, are kept of thousands of models."""
_ORDER = {"error": 0, "warning": 1, "info": 2}


def merged(several: Iterable[Report], notes: Iterable[str] = ()) -> Report:
    """Several reports as one: each finding names its model and the runs it was found in.

    One report stays as it is. The same finding in several runs of a model is listed once.

    Args:
        several: reports of runs, oldest first.
        notes: more notes for the end. Defaults to none.
    """
    total = MergedRuns()
    for report in several:
        total.add(report)
    return total.report(notes)


class MergedRuns:
    """Reports of runs, added up. No finding is lost, and it grows with models, not with runs.

    Attributes:
        count: how many reports were added.
    """

    def __init__(self) -> None:
        self.count = 0
        self._first: Optional[Report] = None
        self._found: Dict[Any, _Found] = {}
        self._models: Dict[str, None] = {}
        self._modes: Dict[Tuple[str, str], Mode] = {}
        self._outcomes: Tuple[Outcome, ...] = ()
        self._texts: Tuple[Dict[str, None], Dict[str, None]] = ({}, {})
        self._stack: Optional[Stack] = None
        self._drift: Tuple[DriftSnapshot, ...] = ()
        self._steps = 0

    def copy(self) -> MergedRuns:
        """The same, to be added to apart from this one."""
        made = copy.copy(self)
        made._found = {key: copy.copy(found) for key, found in self._found.items()}
        made._models, made._modes = dict(self._models), dict(self._modes)
        made._texts = (dict(self._texts[0]), dict(self._texts[1]))
        return made

    def add(self, report: Report) -> None:
        """Add a report, newer than those before; the first of its notes names the run."""
        self.count += 1
        self._first = report if self.count == 1 else None
        run = report.notes[0] if report.notes else "fit"
        for finding in report.findings:
            key = (report.model, finding.code, finding.layers, finding.repaired)
            self._found.setdefault(key, _Found(finding)).add(run, self.count)
        self._models[report.model] = None
        for mode in report.modes:
            key_of_mode = (report.model, mode.path)
            if key_of_mode in self._modes or len(self._modes) < _KEPT:
                self._modes[key_of_mode] = mode
        self._outcomes = merge_outcomes(self._outcomes, report.outcomes)
        for kept, texts in zip(self._texts, (report.repairs, report.notes[1:])):
            kept.update(dict.fromkeys(texts[: max(0, _KEPT - len(kept))]))
        self._stack = self._stack or report.stack
        self._drift = report.drift
        self._steps += report.steps

    def report(self, notes: Iterable[str] = ()) -> Report:
        """All of them as one report, the worst findings first.

        Args:
            notes: more notes for the end. Defaults to none.
        """
        if self._first is not None:
            return (
                replace(self._first, notes=(*self._first.notes, *notes)) if notes else self._first
            )
        many = len(self._models) > 1
        findings = [found.merged(key[0], many, self.count) for key, found in self._found.items()]
        prefixes = {model: f"{model}/" if many else "" for model in self._models}
        modes = [
            replace(mode, path=prefixes[model] + mode.path)
            for (model, _), mode in self._modes.items()
        ]
        return Report(
            model=_names(list(self._models)),
            stack=self._stack,
            findings=tuple(sorted(findings, key=lambda finding: _ORDER[finding.severity])),
            outcomes=self._outcomes,
            modes=tuple(modes),
            drift=() if many else self._drift,
            repairs=tuple(self._texts[0]),
            notes=(*self._texts[1], *notes),
            steps=self._steps,
        )


class _Found:
    """A finding, and the runs it was found in."""

    def __init__(self, finding: Finding) -> None:
        self._finding = finding
        self._runs: Tuple[str, ...] = ()
        self._numbers: Tuple[int, ...] = ()
        self._count = 0

    def add(self, run: str, number: int) -> None:
        self._count += 1
        if len(self._runs) < NAMED:
            self._runs = (*self._runs, run)
            self._numbers = (*self._numbers, number)

    def merged(self, model: str, name_model: bool, total: int) -> Finding:
        where = f"{model}: " if name_model else ""
        numbers = ", ".join(map(str, self._numbers[:SHOWN]))
        more = f" and {self._count - SHOWN} more" if self._count > SHOWN else ""
        again = f" ({'runs' if self._count > 1 else 'run'} {numbers}{more} of {total})"
        finding = self._finding
        evidence = {
            **finding.evidence,
            "model": model,
            "runs": self._runs,
            "run_count": self._count,
        }
        return replace(finding, message=f"{where}{finding.message}{again}", evidence=evidence)


def _names(models: List[str]) -> str:
    more = f" and {len(models) - NAMED} more" if len(models) > NAMED else ""
    return ", ".join(models[:NAMED]) + more
