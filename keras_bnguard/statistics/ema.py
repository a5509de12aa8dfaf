"""How far moving statistics are behind the batches they average, from three looks at them."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from keras_bnguard.records import EmaBias
from keras_bnguard.statistics.drift import average_of_batches, remaining_change

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
        left: momentum ** updates since the start, and since the last look.
        start, last, now: moving mean and variance, each of shape `(channels,)`.
        epsilon: the layer's own. steps: training steps since the last look.

    Returns:
        Medians over channels; NaN where the statistics are not finite.
    """
    with np.errstate(all="ignore"):
        w, q = (np.asarray(part) for part in left)
        mean, variance = (average_of_batches(n, s, w) for n, s in zip(now, start))
        variance = np.maximum(variance, TINY)
        held = np.maximum(now[1].astype(np.float64), 0.0) + epsilon
        step = [remaining_change(n, la, q) for n, la in zip(now, last)]
        return EmaBias(
            path=path,
            initial_weight=float(w),
            start_shift=_median(np.abs(now[0] - mean) / np.sqrt(variance + epsilon)),
            start_log_variance=_median(np.abs(np.log(held / (variance + epsilon)))),
            shift=_median(np.abs(step[0]) / np.sqrt(held)),
            log_variance=_median(np.abs(np.log(np.maximum(1.0 + step[1] / held, TINY)))),
            steps=steps,
        )


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if values.size else 0.0
