"""What every renderer shares: findings by cause, rules by outcome, and text that is safe to show.

Many findings have one cause: flags that changed after `compile()` let the statistics of frozen BN
change. A report lists the cause first and its effects below it.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from keras_bnguard.records import SEVERITIES, Finding, Mode, OutcomeStatus, SkipKind
from keras_bnguard.report.report import Report
from keras_bnguard.rules import BY_CODE

# Control characters, lone surrogates and marks that turn the reading direction: they could
# rewrite a terminal or hide the true spelling of a name. A model file from anywhere can hold them.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


@dataclass(frozen=True)
class Group:
    """A finding and the findings that follow from it."""

    cause: Finding
    effects: Tuple[Finding, ...] = ()


def printable(text: object) -> str:
    """Text without characters that a terminal or a browser would act upon; line ends stay."""
    return _UNSAFE.sub(_escaped, str(text))


def one_line(text: object) -> str:
    """The same without line ends: for names, paths and titles."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def grouped(findings: Sequence[Finding]) -> Tuple[Group, ...]:
    """Findings by cause: open before repaired, errors before warnings before info."""
    parents = [_parent(finding, findings) for finding in findings]
    effects: Dict[int, List[Finding]] = {}
    for finding, parent in zip(findings, parents):
        if parent is not None:
            effects.setdefault(parent, []).append(finding)
    groups = [
        Group(finding, tuple(effects.get(i, ())))
        for i, finding in enumerate(findings)
        if parents[i] is None
    ]
    return tuple(sorted(groups, key=lambda group: min(map(_rank, (group.cause, *group.effects)))))


def _parent(finding: Finding, findings: Sequence[Finding]) -> Optional[int]:
    """The index of the cause of a finding: the end of the chain of causes.

    A finding is a consequence of another one only where both name a layer in common, or one of
    them names no layer.
    """
    rule = BY_CODE.get(finding.code)
    for code in rule.consequence_of if rule is not None else ():
        for i, other in enumerate(findings):
            if other.code == code and _related(finding, other):
                above = _parent(other, findings)
                return i if above is None else above
    return None


def _related(one: Finding, other: Finding) -> bool:
    if (one.repaired is None) != (other.repaired is None):
        return False
    return not one.layers or not other.layers or bool(set(one.layers) & set(other.layers))


def _rank(finding: Finding) -> Tuple[bool, int]:
    known = finding.severity in SEVERITIES
    return (finding.repaired is not None, SEVERITIES.index(finding.severity) if known else 3)


def trust(report: Report) -> str:
    """The worst severity that is still open: "error", "warning" or "clear".

    A report of nothing that was watched is a "warning".
    """
    open_ = {f.severity for f in report.findings if f.repaired is None}
    if "error" in open_:
        return "error"
    return "warning" if "warning" in open_ or not report.watched else "clear"


def not_checked(report: Report) -> Dict[str, Tuple[str, ...]]:
    """Why -> the codes of the rules that were skipped for that reason, in order.

    Info rules that nobody selected are left out; see `info_not_selected`.
    """
    found: Dict[str, List[str]] = {}
    for outcome in report.skipped:
        if outcome.skip_kind is not SkipKind.INFO_NOT_SELECTED:
            found.setdefault(outcome.reason, []).append(outcome.code)
    return {reason: tuple(codes) for reason, codes in found.items()}


def info_not_selected(report: Report) -> Tuple[str, ...]:
    """The codes of the info rules that nobody selected."""
    skipped = report.skipped
    return tuple(o.code for o in skipped if o.skip_kind is SkipKind.INFO_NOT_SELECTED)


def with_status(report: Report, status: OutcomeStatus) -> Tuple[str, ...]:
    """The codes of the rules that ended so."""
    return tuple(o.code for o in report.outcomes if o.status is status)


def parts_of(fix: str) -> List[Tuple[str, str]]:
    """A fix as (prose, code that follows it); the code as it is pasted, without its indent."""
    parts: List[Tuple[List[str], List[str]]] = []
    for line in fix.split("\n") if fix else ():
        if line.startswith("    ") and parts:
            parts[-1][1].append(line)
        elif not parts or parts[-1][1]:
            parts.append(([], [line]) if line.startswith("    ") else ([line], []))
        else:
            parts[-1][0].append(line)
    return [("\n".join(prose), textwrap.dedent("\n".join(code))) for prose, code in parts]


def split_source(source: Optional[str]) -> Optional[Tuple[str, Optional[int]]]:
    """`file.py:41` as file and line; the line is None where none is written."""
    if not source:
        return None
    file, _, line = source.rpartition(":")
    if file and re.fullmatch("[0-9]{1,9}", line):
        return file, max(int(line), 1)
    return source, None


@dataclass(frozen=True)
class ModeRows:
    """Neighbours in one sub-model whose rows of the mode table are the same but for the path."""

    first: Mode
    paths: Tuple[str, ...]

    @property
    def label(self) -> str:
        """The path, or the sub-model and how many."""
        if len(self.paths) == 1:
            return self.paths[0]
        folder = self.first.path.rpartition("/")[0]
        return f"{folder + '/' if folder else ''}* ({len(self.paths)} BN)"


def mode_rows(modes: Sequence[Mode]) -> Tuple[ModeRows, ...]:
    """The mode table with runs of equal rows folded into one."""
    runs: List[Tuple[Tuple[object, ...], List[Mode]]] = []
    for mode in modes:
        key = (mode.path.rpartition("/")[0], *_cells(mode))
        if runs and runs[-1][0] == key:
            runs[-1][1].append(mode)
        else:
            runs.append((key, [mode]))
    return tuple(ModeRows(run[0], tuple(mode.path for mode in run)) for _, run in runs)


def _cells(mode: Mode) -> Tuple[object, ...]:
    return (
        mode.trainable,
        mode.frozen,
        mode.expected,
        mode.why,
        mode.will,
        mode.agrees,
        str(mode.momentum),
        mode.at_default,
        mode.forced_inference,
        mode.verification,
    )
