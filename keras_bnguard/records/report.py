"""The parts of a report: findings, how every rule ended, modes, drift."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple

from keras_bnguard.records.enums import TextEnum
from keras_bnguard.records.modes import ExpectedMode, RunMode, Verification
from keras_bnguard.records.moments import TRAIN_START, Moment


class Severity(TextEnum):
    """How bad a finding is, worst first."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


SEVERITIES = tuple(Severity)


@dataclass(frozen=True)
class Finding:
    """One fault: what was measured, in which layers, and how to fix it.

    Attributes:
        code: code of the rule, such as "BNG201".
        name: name of the rule in kebab-case.
        severity: how bad it is.
        layers: paths of the layers, such as "backbone/block1_bn"; empty where it concerns the
            whole model.
        message: what was measured, and what this Keras does about it.
        fix: what to do, in the imperative, with code to paste.
        evidence: the numbers behind the message by name; the names differ from rule to rule.
        moment: when it was found.
        source: "file.py:41", the line of the user's code that caused it; None where unknown.
        repaired: what `BNGuard(fix=True)` did about it; None where nothing was changed.
    """

    code: str
    name: str
    severity: str
    layers: Tuple[str, ...]
    message: str
    fix: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    moment: Moment = TRAIN_START
    source: Optional[str] = None
    repaired: Optional[str] = None

    def __str__(self) -> str:
        return f"{self.code} {self.name}: {self.message}"


class OutcomeStatus(TextEnum):
    """How a rule ended.

    Attributes:
        FIRED: it found a violation.
        PASSED: it was evaluated and found none.
        IGNORED: the user's settings ignore all of its violations.
        SKIPPED: it was not evaluated; the outcome has the reason.
    """

    FIRED = "fired"
    PASSED = "passed"
    IGNORED = "ignored"
    SKIPPED = "skipped"


class SkipKind(TextEnum):
    """Why a rule was skipped."""

    NOT_SELECTED = "not-selected"
    INFO_NOT_SELECTED = "info-not-selected"
    MISSING_FACT = "missing-fact"
    NOT_COLLECTED = "not-collected"
    NOT_MEASURED = "not-measured"
    NOT_ENOUGH_DATA = "not-enough-data"
    NOT_KNOWN = "not-known"
    CALLS_NOT_OBSERVABLE = "calls-not-observable"
    TOO_EARLY = "too-early"
    RULE_FAILED = "rule-failed"


@dataclass(frozen=True)
class SkipReason:
    """Why a rule was skipped.

    Attributes:
        kind: the reason that code branches on.
        text: the reason in words, for a report.
    """

    kind: SkipKind
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Outcome:
    """How a rule ended.

    Attributes:
        code: the rule.
        status: how it ended.
        reason: why, in words, where it was skipped or ignored. Defaults to "".
        skip_kind: the kind of that reason where it was skipped. Defaults to None.
    """

    code: str
    status: OutcomeStatus
    reason: str = ""
    skip_kind: Optional[SkipKind] = None

    @classmethod
    def skipped(cls, code: str, why: SkipReason) -> Outcome:
        """The outcome of a rule that was skipped."""
        return cls(code, OutcomeStatus.SKIPPED, why.text, why.kind)


@dataclass(frozen=True)
class Mode:
    """One row of the mode table: what a BN should do in training, and what it will do here.

    Attributes:
        path: path of the BN.
        trainable: the layer's own flag.
        frozen: whether its own flag or one above it is False.
        expected: the mode it should run in.
        why: the fact that decides `expected`, in words.
        will: the mode it will run in on this stack, never UNKNOWN.
        agrees: whether `will` is what `expected` asks for.
        momentum: its momentum, None where the layer has none.
        at_default: whether the moving mean is 0 and the moving variance is 1 in every channel;
            None while it is not built.
        forced_inference: whether this package forces it into inference mode. Defaults to False.
        verification: what is known of its forced inference; None for BN that are not forced, and
            before training. Defaults to None.
    """

    path: str
    trainable: bool
    frozen: bool
    expected: ExpectedMode
    why: str
    will: RunMode
    agrees: bool
    momentum: Optional[float]
    at_default: Optional[bool]
    forced_inference: bool = False
    verification: Optional[Verification] = None


@dataclass(frozen=True)
class DriftSnapshot:
    """How far the moving statistics of every BN are from those at the start of training.

    Each number is a mean over the channels of one BN. A value that is NaN stays NaN. The
    formulas are in `statistics/drift.py`.

    Attributes:
        moment: when the statistics were read.
        epoch: number of the epoch, from 0; None outside `fit`.
        steps: training steps since the start of training.
        distance: path -> drift, the Bhattacharyya distance that BNG406 judges.
        mean_shift: path -> shift of the moving mean, in standard deviations of the start.
        log_variance_ratio: path -> size of the change of the moving variance, natural logarithm.
    """

    moment: Moment
    epoch: Optional[int]
    steps: int
    distance: Mapping[str, float]
    mean_shift: Mapping[str, float] = field(default_factory=dict)
    log_variance_ratio: Mapping[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """The largest drift of any BN; 0.0 without BN, NaN where one is NaN."""
        values = list(self.distance.values())
        return float("nan") if any(v != v for v in values) else max(values, default=0.0)
