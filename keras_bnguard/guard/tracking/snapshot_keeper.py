"""The snapshot of the model that a run works with, taken again where the model has changed."""

from __future__ import annotations

from typing import Any, FrozenSet, Mapping, Optional

from keras_bnguard.model.blocks.flags import add_blocks
from keras_bnguard.model.forced_inference import mark_forced_inference
from keras_bnguard.model.snapshot import ModelSnapshot, take_snapshot
from keras_bnguard.records import Inventory
from keras_bnguard.records.ids import TrainableFlags
from keras_bnguard.rules.base import ExpensiveFact

"""id(layer) -> `trainable`."""


class SnapshotKeeper:
    """Takes snapshots of one model and keeps the last one.

    Args:
        model: the model.
        flags: the flags that count, None for those of the layers.
        compiled: the flags at `compile()`, None for those that Keras keeps.
        wants: the expensive facts to collect.

    Attributes:
        current: the last snapshot.
        is_new: whether no rule has been evaluated on it yet.
    """

    def __init__(
        self,
        model: Any,
        flags: Optional[TrainableFlags],
        compiled: Optional[TrainableFlags],
        wants: FrozenSet[ExpensiveFact],
    ) -> None:
        self._model = model
        self._wants = wants
        self._retaken_built = False
        self._complete: Optional[Inventory] = None
        self.is_new = True
        self.current: ModelSnapshot = self._take(flags, compiled)

    def _take(
        self, flags: Optional[TrainableFlags], compiled: Optional[TrainableFlags]
    ) -> ModelSnapshot:
        snapshot = take_snapshot(self._model, flags=flags, compiled=compiled)
        mark_forced_inference(snapshot)
        if ExpensiveFact.SHARED_MODELS in self._wants:
            snapshot.shared_norms()
        if snapshot.inventory.built and ExpensiveFact.BLOCKS in self._wants:
            return add_blocks(snapshot)
        return snapshot

    @property
    def retaken_built(self) -> bool:
        """Whether layers that a step built are in a snapshot that was taken after it."""
        return self._retaken_built

    def retake(self, flags: TrainableFlags, compiled: Optional[TrainableFlags]) -> None:
        """Take a snapshot of the same model with other flags or more layers."""
        self.is_new = True
        self.current = self._take(flags, compiled)

    def retake_when_built(self, flags: TrainableFlags, compiled: Optional[TrainableFlags]) -> bool:
        """Once: take the layers that a model made, and the BN that it built, at its first step.

        Returns:
            Whether a snapshot was taken.
        """
        known = self.current.inventory
        if self._retaken_built or self._complete is known:
            return False
        if known.built and all(norm.built for norm in known.norms):
            self._complete = known
            return False
        self._retaken_built = True
        self.retake(flags, compiled)
        return True

    def mark_evaluated(self) -> None:
        """Note that every rule was evaluated on the present snapshot."""
        self.is_new = False

    def note_start(self, at_default: Mapping[str, bool]) -> None:
        """After a late snapshot: what counts is how a BN started, not what a step made of it.

        Args:
            at_default: path -> whether a BN had its default statistics at the start.
        """
        norms = self.current.inventory.norms
        started = {norm.path: at_default.get(norm.path) for norm in norms}
        if self._retaken_built and any(started[n.path] is not n.at_default for n in norms):
            self.current.set_initial_defaults(started)

    def note_repair(self) -> None:
        """Describe the BN that are forced into inference mode since a repair as forced."""
        self.is_new = True
        mark_forced_inference(self.current)
