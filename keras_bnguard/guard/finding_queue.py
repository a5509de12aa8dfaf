"""The findings of a run: all of them, and those that the user has not got yet."""

from __future__ import annotations

from dataclasses import replace
from typing import Collection, List, Mapping, Sequence, Tuple

from keras_bnguard.records import Finding


class FindingQueue:
    """Findings in the order in which they were found."""

    def __init__(self) -> None:
        self._all: List[Finding] = []
        self._taken = 0

    def add(self, findings: Sequence[Finding]) -> None:
        """Append new findings."""
        self._all += findings

    def all(self) -> Tuple[Finding, ...]:
        """Every finding."""
        return tuple(self._all)

    def unrepaired(self) -> Tuple[Finding, ...]:
        """Every finding that nothing was done about."""
        return tuple(finding for finding in self._all if finding.repaired is None)

    def mark_repaired(self, done: Mapping[str, str]) -> None:
        """Note what was done about findings, also about those the user has.

        Args:
            done: code -> what was done.
        """
        self._all = [
            replace(finding, repaired=done[finding.code]) if finding.code in done else finding
            for finding in self._all
        ]

    def mark_unrepaired(self, codes: Collection[str]) -> None:
        """Note that what was done about findings did not work.

        Args:
            codes: their codes.
        """
        self._all = [
            replace(finding, repaired=None) if finding.code in codes else finding
            for finding in self._all
        ]

    def take_new(self) -> Tuple[Finding, ...]:
        """The findings since the last call, for the user."""
        new = tuple(self._all[self._taken :])
        self._taken = len(self._all)
        return new
