"""Keeps track of where the statistics of a model's BN come from while it trains."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Tuple

from keras_bnguard.model.expected_mode import expected_mode
from keras_bnguard.model.provenance import history_of, provenances
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import ExpectedMode, NormState


class ProvenanceTracker:
    """Notes what a run shows of its BN, and puts what is known into the snapshot.

    Args:
        snapshot: the model as the run or the phase begins.
        states: path -> the vectors of each BN that can be read.
        trains: whether training steps may follow; an audit freezes nothing. Defaults to True.
        late: whether a first forward pass came before. Defaults to False.
    """

    def __init__(
        self,
        snapshot: ModelSnapshot,
        states: Mapping[str, NormState],
        trains: bool = True,
        late: bool = False,
    ) -> None:
        self._handles = {handle.path: handle for handle in snapshot.handles}
        started = snapshot.backend.optimizer.iterations(snapshot.model)
        norms = {norm.path: norm for norm in snapshot.inventory.norms}
        for path, state in states.items():
            history = history_of(self._handles[path])
            if history is None:
                continue
            history.begin(snapshot.model, state, started, norms[path].momentum if late else None)
            if trains and expected_mode(norms[path])[0] is ExpectedMode.INFERENCE:
                history.freeze(snapshot.model)
        self._known: Mapping[str, Any] = {}
        self.describe(snapshot)

    def describe(self, snapshot: ModelSnapshot) -> None:
        """Put what was known at the start into a snapshot of the same model.

        BN that were not there yet are built with their default.
        """
        self._handles = {handle.path: handle for handle in snapshot.handles}
        known = provenances(self._handles, snapshot.model)
        self._known = {**known, **self._known}
        snapshot.set_provenance(self._known)

    def decay(self, path: str, left: float) -> Tuple[Optional[NormState], float]:
        """Updates of this run leave a share of the statistics of its start: see `decay` there."""
        history = history_of(self._handles[path])
        return (None, left) if history is None else history.decay(left)

    def train(self, model: Any, updated: Mapping[str, NormState], steps: int) -> None:
        """Training steps updated the statistics of these BN."""
        for path, state in updated.items():
            history = history_of(self._handles[path])
            if history is not None:
                history.train(model, state, steps)
