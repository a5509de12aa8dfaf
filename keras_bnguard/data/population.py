"""Population statistics: moments over all batches of the data, and how they get into a model."""

from __future__ import annotations

from typing import Dict, Iterable, Mapping, Optional

import numpy as np

from keras_bnguard.backends.values.probe import Probe
from keras_bnguard.data.all_processes import AllProcesses
from keras_bnguard.data.batch import Batch
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.statistics.moments import InputMoments, pool


def population_moments(
    probe: Probe, batches: Iterable[Batch], processes: Optional[AllProcesses] = None
) -> Dict[str, InputMoments]:
    """Mean and variance of what reaches each BN of a probe, over all batches, by path.

    Args:
        probe: of the model.
        batches: the rows of this process.
        processes: those whose rows count. Defaults to None: this one.
    """

    def local() -> Dict[str, InputMoments]:
        return pool([moments for batch in batches for moments in probe(batch.x).moments])

    parts = [local()] if processes is None else processes.run(local)
    return parts[0] if len(parts) == 1 else pool([m for part in parts for m in part.values()])


def assign_moments(snapshot: ModelSnapshot, moments: Mapping[str, InputMoments]) -> None:
    """Make moments the moving statistics of the BN at their paths, as float32."""
    handles = {handle.path: handle for handle in snapshot.handles}
    for path, item in moments.items():
        mean, variance, _, _ = handles[path].vectors()
        snapshot.backend.values.assign(mean, item.mean.astype(np.float32))
        snapshot.backend.values.assign(variance, item.variance.astype(np.float32))
