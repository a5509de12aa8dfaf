"""How far moving statistics are from where they started, per channel and per layer."""

from __future__ import annotations

from typing import Tuple

import numpy as np

# Limits of BNG406, per layer. Provisional: correct fine-tuning moves inputs by 0.1-0.25 sigma
# and 0.3-0.6 log variance.
MAX_MEAN_SHIFT = 1.0
MAX_LOG_VARIANCE_RATIO = 2.303


def mean_shift(
    mean: np.ndarray, mean0: np.ndarray, variance0: np.ndarray, epsilon: np.ndarray
) -> np.ndarray:
    """Shift of the moving mean in standard deviations of the start: |m - m0| / sqrt(v0 + eps).

    Args:
        mean, mean0, variance0: shape `(channels,)`, any float dtype.
        epsilon: the layer's own epsilon, shape `(channels,)` or `()`.

    Returns:
        Shape `(channels,)`, float64, unit one standard deviation. NaN where an input is NaN.
    """
    wide = np.float64
    scale = np.sqrt(np.maximum(variance0.astype(wide), 0.0) + epsilon)
    return np.asarray(np.abs(mean.astype(wide) - mean0.astype(wide)) / scale)


def log_variance_ratio(
    variance: np.ndarray, variance0: np.ndarray, epsilon: np.ndarray
) -> np.ndarray:
    """Size of the change of the moving variance: |log((v + eps) / (v0 + eps))|.

    Args:
        variance, variance0: shape `(channels,)`. A negative variance counts as 0.
        epsilon: the layer's own epsilon; it bounds what a dead channel can contribute.

    Returns:
        Shape `(channels,)`, float64, natural log: 0.69 is a factor of two either way.
    """
    wide = np.float64
    now = np.maximum(variance.astype(wide), 0.0) + epsilon
    start = np.maximum(variance0.astype(wide), 0.0) + epsilon
    return np.asarray(np.abs(np.log(now / start)))


def per_layer(values: np.ndarray, offsets: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Mean and maximum of channel values for each layer of a joined array.

    Args:
        values: shape `(all channels,)`.
        offsets: index where each layer begins, strictly increasing, first 0.

    Returns:
        (mean, maximum), each of shape `(layers,)`.
    """
    if not len(offsets):
        return np.zeros(0), np.zeros(0)
    counts = np.diff(np.append(offsets, len(values)))
    return np.add.reduceat(values, offsets) / counts, np.maximum.reduceat(values, offsets)
