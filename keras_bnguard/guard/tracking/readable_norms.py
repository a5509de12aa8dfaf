"""The BN layers whose statistics can be read now, as one pair of joined vectors."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

import numpy as np

from keras_bnguard.backends.base import Backend
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.values.readers import LiveReader
from keras_bnguard.records import NormState
from keras_bnguard.statistics.layout import ChannelLayout, Vectors


class ReadableNorms:
    """The built BN layers of a model, in the order of its inventory.

    Args:
        backend: the backend of the model.
        handles: all BN of the model; those that are not built are left out.

    Attributes:
        handles: the BN that can be read.
        index: path -> place in `handles`.
        layout: their channels.
        epsilon: epsilon of the layer of each channel, 0 where it has none, shape `(channels,)`.
    """

    def __init__(self, backend: Backend, handles: Sequence[NormHandle]) -> None:
        self._backend = backend
        self.handles: List[NormHandle] = [h for h in handles if is_readable(h)]
        self.index: Dict[str, int] = {h.path: i for i, h in enumerate(self.handles)}
        self.layout = ChannelLayout([_channels(h) for h in self.handles])
        self.epsilon = self.layout.repeat([h.settings["epsilon"] or 0.0 for h in self.handles])
        self._read = backend.values.reader(self._variables())

    def __len__(self) -> int:
        return len(self.handles)

    def read(self) -> Vectors:
        """The statistics of the model as they are now, copied."""
        return Vectors(self._read())

    def states(self) -> Dict[str, NormState]:
        """Path -> the vectors of each BN, gamma and beta too, copied."""
        return dict(zip(self.index, self._backend.values.states(self.handles)))

    def live_reader(self, model: Any) -> LiveReader:
        """A reader of the same vectors that also works between two batches of `fit`."""
        return self._backend.values.live_reader(model, self._variables())

    def _variables(self) -> List[Any]:
        pairs = [h.vectors() for h in self.handles]
        return [p[0] for p in pairs] + [p[1] for p in pairs]


def is_readable(handle: NormHandle) -> bool:
    """Whether a BN has its moving statistics: it does not before it is built."""
    mean, variance, _, _ = handle.vectors()
    return mean is not None and variance is not None


def _channels(handle: NormHandle) -> int:
    return int(np.prod([int(d) for d in handle.vectors()[0].shape]))
