"""The channels of one BN in detail: values that are not finite, negative or dead."""

from __future__ import annotations

from typing import Any, Dict, Optional

import numpy as np

from keras_bnguard.records import NormState

DEAD_RATIO = 1e-6
"""A channel whose variance is below this share of its layer's median counts as dead."""


def channel_health(mean: np.ndarray, variance: np.ndarray, affine: NormState) -> Dict[str, Any]:
    """The fields of a `StatisticsChange` about the channels of one BN.

    Args:
        mean: shape `(channels,)`, any float dtype.
        variance: the same shape.
        affine: gamma and beta of the same layer, either may be None.

    Returns:
        `nonfinite` (names of vectors), `negative_channels`, `dead_channels` (counts),
        `min_variance` and `median_variance` over finite channels, NaN where there is none.
    """
    vectors = {
        "moving_mean": mean,
        "moving_variance": variance,
        "gamma": affine.gamma,
        "beta": affine.beta,
    }
    usable = variance[np.isfinite(variance)]
    nothing = float("nan")
    return {
        "nonfinite": tuple(
            name for name, v in vectors.items() if v is not None and not np.all(np.isfinite(v))
        ),
        "negative_channels": int(np.sum(variance < 0)),
        "dead_channels": int(np.sum(dead_channels(mean, variance, affine.gamma))),
        "min_variance": float(np.min(usable)) if len(usable) else nothing,
        "median_variance": float(np.median(usable)) if len(usable) else nothing,
    }


def dead_channels(
    mean: np.ndarray, variance: np.ndarray, gamma: Optional[np.ndarray]
) -> np.ndarray:
    """Channels whose variance has collapsed although their input is not constant zero.

    A channel counts when its variance is not negative and below 1e-6 times the median of its
    layer. Left out, as nothing is wrong there: channels whose gamma is 0 (pruned), and
    channels that carry plain zeros, whose mean is 0 too beside the deviation of the layer, unless
    all other channels still have their default statistics.

    Args:
        mean: shape `(channels,)`.
        variance: the same shape.
        gamma: the same shape, or None.

    Returns:
        Bool, shape `(channels,)`.
    """
    finite = np.isfinite(variance) & np.isfinite(mean)
    if not np.any(finite):
        return np.zeros(len(variance), bool)
    median = float(np.median(variance[finite]))
    dead: np.ndarray = finite & (variance >= 0) & (variance < DEAD_RATIO * median)
    if not np.any(dead):
        return dead
    if gamma is not None:
        dead &= np.abs(gamma) > 1e-6 * max(1e-12, float(np.max(np.abs(gamma))))
    rest = finite & ~dead
    untouched = bool(np.all(mean[rest] == 0) and np.all(variance[rest] == 1))
    if not untouched:
        dead &= np.abs(mean) > 1e-3 * np.sqrt(max(median, 0.0))
    return dead
