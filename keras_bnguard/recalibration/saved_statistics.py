"""Moving statistics of some BN of a model, saved to be restored bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Collection, Mapping, Sequence

import numpy as np

from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import NormState


@dataclass(frozen=True)
class SavedStatistics:
    """Moving statistics of some BN as they were.

    Attributes:
        snapshot: the model.
        states: path -> mean and variance, over replicas where they keep statistics apart.
        copies: path -> mean and variance in each copy that replicas of this process keep.
    """

    snapshot: ModelSnapshot
    states: Mapping[str, NormState]
    copies: Mapping[str, Sequence[Sequence[np.ndarray]]]

    @classmethod
    def of(cls, snapshot: ModelSnapshot, paths: Collection[str]) -> SavedStatistics:
        """Read the statistics that the BN at these paths have now."""
        handles = {handle.path: handle for handle in snapshot.handles}
        values = snapshot.backend.values
        states = values.states([handles[path] for path in paths], affine=False)
        copies = {
            path: [
                [np.array(values.to_numpy(copy)) for copy in values.copies(vector)]
                for vector in handles[path].vectors()[:2]
                if vector is not None
            ]
            for path in paths
        }
        return cls(snapshot, dict(zip(paths, states)), copies)

    def only(self, paths: Collection[str]) -> SavedStatistics:
        """Those of the BN at these paths."""
        return SavedStatistics(
            self.snapshot,
            {path: self.states[path] for path in paths},
            {path: self.copies[path] for path in paths},
        )

    def restore(self) -> None:
        """Assign the statistics to the model again, bit for bit; of replicas, every copy."""
        handles = {handle.path: handle for handle in self.snapshot.handles}
        values = self.snapshot.backend.values
        for path, saved in self.copies.items():
            vectors = [vector for vector in handles[path].vectors()[:2] if vector is not None]
            for vector, arrays in zip(vectors, saved):
                for copy, array in zip(values.copies(vector), arrays):
                    values.assign(copy, array)
