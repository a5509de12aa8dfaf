"""Which findings fail a run: what `--fail-on` and `--bnguard-fail-on` match."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable, List, Optional

if TYPE_CHECKING:  # The records load NumPy; that is left to the script.
    from keras_bnguard.records import Finding

SEVERITIES = {None: (), "error": ("error",), "warning": ("error", "warning")}
"""Value of the setting `fail_on` -> severities that fail a run."""


def failing(findings: Iterable[Finding], fail_on: Optional[str]) -> List[Finding]:
    """The findings that fail a run: as severe as `fail_on` at least, and not repaired.

    Args:
        findings: findings of all runs.
        fail_on: the setting: "error", "warning", or None for no finding.
    """
    severities = SEVERITIES[fail_on]
    return [f for f in findings if f.severity in severities and f.repaired is None]
