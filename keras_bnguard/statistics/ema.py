"""EMA bias: how far moving statistics are behind the batches they average."""

from __future__ import annotations

from typing import List, Tuple

import numpy as np

from keras_bnguard.records import EmaBias

Pair = Tuple[np.ndarray, np.ndarray]
TINY = 1e-12


def ema_bias(
    path: str,
    left: Tuple[float, float],
    start: Pair,
    last: Pair,
    now: Pair,
    *,
    epsilon: float,
    steps: int,
) -> EmaBias:
    """The record of one BN.

    Args:
        path: path of the BN.
        left: momentum ** updates since the start, and since the check before.
        start: moving mean and variance at the start, each of shape `(channels,)`.
        last: the same at the check before.
        now: the same at this check.
        epsilon: the layer's own.
        steps: training steps since the check before.

    Returns:
        Medians over channels; NaN where the statistics are not finite.
    """
    with np.errstate(all="ignore"):
        w, q = (np.asarray(part) for part in left)
        mean, variance = (average_of_batches(n, s, w) for n, s in zip(now, start))
        variance = np.maximum(variance, TINY)
        variance_now = np.maximum(now[1].astype(np.float64), 0.0) + epsilon
        step = [remaining_change(n, la, q) for n, la in zip(now, last)]
        start_shift, start_log_variance, shift, log_variance = _medians(
            (now[0] - mean) / np.sqrt(variance + epsilon),
            np.log(variance_now / (variance + epsilon)),
            step[0] / np.sqrt(variance_now),
            np.log(np.maximum(1.0 + step[1] / variance_now, TINY)),
        )
    return EmaBias(
        path=path,
        initial_weight=float(w),
        start_shift=start_shift,
        start_log_variance=start_log_variance,
        shift=shift,
        log_variance=log_variance,
        steps=steps,
    )


def average_of_batches(
    now: np.ndarray, start: np.ndarray, initial_weight: np.ndarray
) -> np.ndarray:
    """The average that batches alone would have left: (m_t - w m_0) / (1 - w).

    An exponential moving average is m_t = w m_0 + (1 - w) a, where w = momentum ** updates is
    what is left of the start and a is a weighted average of what the batches had.

    Args:
        now: the moving average, shape `(channels,)`.
        start: its value at the start, the same shape.
        initial_weight: w, the same shape, below 1.

    Returns:
        Shape `(channels,)`, float64.
    """
    w = np.minimum(initial_weight, 1.0 - 1e-9)
    return np.asarray((now.astype(np.float64) - w * start.astype(np.float64)) / (1.0 - w))


def remaining_change(now: np.ndarray, last: np.ndarray, left: np.ndarray) -> np.ndarray:
    """How far a moving average that nears a fixed value still has to go: d q / (1 - q).

    In some updates it changed by d = now - last, and q = momentum ** updates of the way was left.
    So d is (1 - q) of the way at `last`, and q / (1 - q) of d remains.

    Args:
        now: the moving average, shape `(channels,)`.
        last: its value some updates before, the same shape.
        left: q, the same shape, below 1.

    Returns:
        Shape `(channels,)`, float64, signed.
    """
    q = np.minimum(left, 1.0 - 1e-9)
    return np.asarray((now.astype(np.float64) - last.astype(np.float64)) * q / (1.0 - q))


def _medians(*values: np.ndarray) -> List[float]:
    """The median of the absolute values of each; 0.0 where there are none."""
    if not values[0].size:
        return [0.0] * len(values)
    return [float(median) for median in np.median(np.abs(values), axis=1)]
