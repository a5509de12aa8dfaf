"""The drift of a run over time."""

from __future__ import annotations

from typing import List, Optional, Tuple

from keras_bnguard.records import DriftSnapshot, MomentKind

MOST = 2000
"""Of checks between batches, every second is dropped before there are more snapshots."""


class DriftHistory:
    """One snapshot a check, oldest first, in bounded number."""

    def __init__(self) -> None:
        self._snapshots: List[DriftSnapshot] = []

    def __len__(self) -> int:
        return len(self._snapshots)

    def add(self, snapshot: DriftSnapshot) -> None:
        """Append a snapshot; thin out those between batches where there are too many."""
        self._snapshots.append(snapshot)
        if len(self._snapshots) > MOST:
            between = [s for s in self._snapshots if s.moment.kind is MomentKind.BATCH_END]
            dropped = {id(s) for s in between[::2]}
            self._snapshots = [s for s in self._snapshots if id(s) not in dropped]

    def all(self) -> Tuple[DriftSnapshot, ...]:
        """Every snapshot that is kept."""
        return tuple(self._snapshots)

    def last_steps(self) -> Optional[Tuple[int, int]]:
        """(steps at the last check, steps between it and the one before); None without one."""
        if not self._snapshots:
            return None
        last = self._snapshots[-1].steps
        return last, last - (self._snapshots[-2].steps if len(self._snapshots) > 1 else 0)
