"""`Report`: what an audit returns and a guarded run ends with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

from keras_bnguard.records import (
    DriftSnapshot,
    Finding,
    Mode,
    Outcome,
    OutcomeStatus,
    Severity,
    Stack,
    WeightCounts,
)
from keras_bnguard.report.files import PathLike
from keras_bnguard.report.formats import TEXT, Phases, format_of


@dataclass(frozen=True, repr=False)
class Report:
    """The result of an audit or of one guarded run: findings, and what they rest on.

    `print(report)` gives the text for a terminal of 80 columns, `repr(report)` one line; a
    notebook shows the report as HTML; `save` writes it to a file.

    Attributes:
        model: name of the model; of several models their names, separated by commas.
        stack: the Keras and the backend the model belongs to; None where no training was seen.
        findings: what is wrong, in the order it was found.
        outcomes: how every rule ended, one for each rule, in the order of the codes.
        modes: one row for each BN: what it should do, and what it will do here.
        drift: how far the moving statistics were from their values at the start of training,
            one snapshot for each check; empty after an audit.
        repairs: what `BNGuard(fix=True)` changed, one line each.
        notes: other facts a reader needs, such as a layer that could not be read.
        steps: training steps since the start of training; 0 after an audit.
        weights: how many weights train in `fit` as the flags are; None where unknown.
        phases: `PhaseScheduler.history` of the same `fit`, one row per epoch; empty without one.
    """

    model: str
    stack: Optional[Stack]
    findings: Tuple[Finding, ...] = ()
    outcomes: Tuple[Outcome, ...] = ()
    modes: Tuple[Mode, ...] = ()
    drift: Tuple[DriftSnapshot, ...] = ()
    repairs: Tuple[str, ...] = ()
    notes: Tuple[str, ...] = ()
    steps: int = 0
    weights: Optional[WeightCounts] = None
    phases: Tuple[Mapping[str, Any], ...] = ()

    @property
    def watched(self) -> bool:
        """Whether a model was audited or its training watched; False where nothing could be."""
        return self.stack is not None or bool(self.findings)

    @property
    def skipped(self) -> Tuple[Outcome, ...]:
        """Outcomes of the rules that could not be evaluated, each with its reason."""
        return tuple(o for o in self.outcomes if o.status is OutcomeStatus.SKIPPED)

    @property
    def warnings_and_errors(self) -> Tuple[Finding, ...]:
        """Findings of severity warning or error, the repaired ones included."""
        return tuple(f for f in self.findings if f.severity is not Severity.INFO)

    @property
    def codes(self) -> Tuple[str, ...]:
        """Codes of the findings, in order, without repeats."""
        return tuple(dict.fromkeys(f.code for f in self.findings))

    def save(self, path: PathLike, phases: Phases = ()) -> None:
        """Write the report to a file; missing folders are made, an older file is replaced.

        Args:
            path: a file name; its ending chooses the format: `.html` (one page that needs
                nothing else), `.json`, `.sarif` (or `.sarif.json`) or `.txt`.
            phases: `PhaseScheduler.history`, one row per epoch, shown in HTML. Defaults to
                those of the report.

        Raises:
            SettingError: no format has this ending.
            MissingExtraError: `.html` without the package jinja2.
            OSError: the file cannot be written.
        """
        format_of(path).save(self, path, phases or self.phases)

    def __str__(self) -> str:
        return TEXT.render(self)

    def __repr__(self) -> str:
        from keras_bnguard.report.text import verdict

        name = f" of {self.model}" if self.model else ""
        return f"<Report{name}: {verdict(self)}; print it for all of it>"

    def _repr_html_(self) -> str:
        from keras_bnguard.report.notebook import as_html

        return as_html(self)
