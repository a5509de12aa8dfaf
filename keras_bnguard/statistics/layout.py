"""The statistics of many layers as one array: where each layer is, and what differs."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

_BITS = {2: np.uint16, 4: np.uint32, 8: np.uint64}


class ChannelLayout:
    """Where the channels of each layer are in an array of all channels.

    Args:
        sizes: number of channels of each layer, each at least 1.

    Attributes:
        sizes: the same, shape `(layers,)`.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = np.array(sizes, dtype=int)
        self._offsets = np.cumsum(self.sizes) - self.sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def slice_of(self, layer: int) -> slice:
        """The channels of the layer with this index."""
        begin = int(self._offsets[layer])
        return slice(begin, begin + int(self.sizes[layer]))

    def repeat(self, values: Any) -> np.ndarray:
        """One value a layer as one value a channel, shape `(channels,)`."""
        return np.repeat(values, self.sizes)

    def any(self, values: np.ndarray) -> np.ndarray:
        """Whether any channel of a layer is true, shape `(layers,)`, bool."""
        return self._reduce(np.logical_or, values).astype(bool)

    def all(self, values: np.ndarray) -> np.ndarray:
        """Whether every channel of a layer is true, shape `(layers,)`, bool."""
        return self._reduce(np.logical_and, values).astype(bool)

    def largest(self, values: np.ndarray) -> np.ndarray:
        """The largest value of each layer, NaN where there is one, shape `(layers,)`."""
        return self._reduce(np.maximum, values)

    def smallest(self, values: np.ndarray) -> np.ndarray:
        """The smallest value of each layer, NaN where there is one, shape `(layers,)`."""
        return self._reduce(np.minimum, values)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """The mean of each layer, summed in float64, shape `(layers,)`."""
        return np.asarray(self._reduce(np.add, values, dtype=np.float64) / self.sizes)

    def _reduce(self, combine: Any, values: np.ndarray, **how: Any) -> np.ndarray:
        if not len(self):
            return np.zeros(0)
        return np.asarray(combine.reduceat(values, self._offsets, **how))


class Vectors:
    """Moving means and then moving variances of all layers.

    Args:
        joined: both, shape `(2 * channels,)`, a float dtype.

    Attributes:
        mean: shape `(channels,)`.
        variance: shape `(channels,)`.
    """

    def __init__(self, joined: np.ndarray) -> None:
        half = len(joined) // 2
        self.mean, self.variance = joined[:half], joined[half:]
        self._bits = bits(joined)

    def __len__(self) -> int:
        return len(self._bits)

    def differs(self, other: Vectors) -> np.ndarray:
        """Whether any bit of a channel differs, shape `(channels,)`; NaN differs from a number."""
        changed = self._bits != other._bits
        half = len(changed) // 2
        return np.asarray(changed[:half] | changed[half:])

    def joined(self) -> np.ndarray:
        """Means, then variances, shape `(2 * channels,)`, copied."""
        return np.concatenate([self.mean, self.variance])


def bits(values: np.ndarray) -> np.ndarray:
    """Floats as unsigned integers of the same size, so that a comparison compares bits."""
    return np.ascontiguousarray(values).view(_BITS[values.itemsize])
