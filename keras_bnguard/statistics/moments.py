"""Mean and variance of what reaches a BN: pooled over batches, and compared with moving ones.

Pure NumPy; variances are biased ones, as Keras stores them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Sequence

import numpy as np

from keras_bnguard.statistics.channel_health import DEAD_RATIO


@dataclass(frozen=True)
class InputMoments:
    """Moments of the input of one BN, over one call or pooled over several.

    Attributes:
        path: path of the BN.
        mean: per channel, shape `(channels,)`, float64.
        variance: biased variance per channel, shape `(channels,)`, float64.
        count: values per channel that they were taken over.
    """

    path: str
    mean: np.ndarray
    variance: np.ndarray
    count: float

    @property
    def finite(self) -> bool:
        """Whether no mean and no variance is NaN or infinite."""
        return bool(np.all(np.isfinite(self.mean)) and np.all(np.isfinite(self.variance)))


def pool(moments: Sequence[InputMoments]) -> Dict[str, InputMoments]:
    """Moments over all calls and batches, by path: the mean and biased variance of all values.

    For parts i with n_i values, mean m_i and variance v_i: m = sum n_i m_i / n and
    v = sum n_i (v_i + (m_i - m)^2) / n, in float64 (Chan, Golub, LeVeque 1983).

    Args:
        moments: of any number of BN, in any order.
    """
    parts: Dict[str, List[InputMoments]] = {}
    for item in moments:
        parts.setdefault(item.path, []).append(item)
    pooled = {}
    for path, items in parts.items():
        n = np.array([item.count for item in items])[:, None]
        means = np.stack([item.mean for item in items])
        variances = np.stack([item.variance for item in items])
        total = float(np.sum(n))
        with np.errstate(invalid="ignore", over="ignore"):  # inf - inf: `finite` is False then.
            mean = np.sum(n * means, axis=0) / total
            variance = np.sum(n * (variances + (means - mean) ** 2), axis=0) / total
        pooled[path] = InputMoments(path, mean, variance, total)
    return pooled


def within_batch_variance_ratio(batches: Sequence[InputMoments], pooled: InputMoments) -> float:
    """Variance inside a batch as a share of the pooled variance: 1 where all batches look alike.

    Args:
        batches: moments of one BN, one item a batch.
        pooled: the same, pooled.

    Returns:
        Mean over channels that are not dead and over batches weighted by their values; 1.0 where
        every channel is dead.
    """
    counts = np.array([part.count for part in batches])
    inside = np.average([part.variance for part in batches], axis=0, weights=counts)
    usable = _not_dead(pooled.variance)
    if not np.any(usable):
        return 1.0
    return float(np.mean(inside[usable] / pooled.variance[usable]))


def variance_ratio(variance: np.ndarray, moving_variance: np.ndarray) -> float:
    """Median over channels of variance / moving variance, without epsilon.

    Args:
        variance: of the data, shape `(channels,)`.
        moving_variance: of the BN, the same shape; its dead channels are left out.

    Returns:
        The ratio, no unit; 1.0 where every channel is dead.
    """
    usable = _not_dead(moving_variance)
    if not np.any(usable):
        return 1.0
    return float(np.median(variance[usable] / moving_variance[usable]))


def _not_dead(variance: np.ndarray) -> np.ndarray:
    median = max(float(np.median(variance)), 1e-30)
    return np.asarray(variance > DEAD_RATIO * median)
