"""How far moving statistics are from where they started, per channel.

`mean_shift`, `log_variance_ratio` and `bhattacharyya` are the definitions, in float64. `DriftMeter`
is what the guard uses at every check; a test compares it with them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Limit of BNG406, per layer: mean Bhattacharyya distance of its channels. Correct fine-tuning
# stayed below 0.03; from 0.06 on, statistics alone cost every net of the experiment in
# docs/statistics.md more than five points of accuracy.
MAX_DISTANCE = 0.1


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


def bhattacharyya(
    mean: np.ndarray,
    variance: np.ndarray,
    mean0: np.ndarray,
    variance0: np.ndarray,
    epsilon: np.ndarray,
) -> np.ndarray:
    """Bhattacharyya distance of the two normal distributions a BN stands for, per channel.

    With s = v + eps and s0 = v0 + eps:
    (m - m0)^2 / (4 (s + s0)) + log((s + s0) / (2 sqrt(s s0))) / 2.
    Bhattacharyya, "On a measure of divergence between two statistical populations", 1943; for
    normal distributions as in Kailath, IEEE Trans. Comm. Tech. 15(1), 1967, equation 8. It is
    symmetric, 0 for equal statistics alone, does not change with the scale of the channel, and
    exp(-distance) is the overlap of the two densities. Unlike a Kullback-Leibler divergence it
    grows with the logarithm of a variance ratio, so that one dead channel does not decide for
    its layer.

    Args:
        mean, variance, mean0, variance0: shape `(channels,)`, any float dtype. A negative
            variance counts as 0.
        epsilon: the layer's own epsilon, shape `(channels,)` or `()`.

    Returns:
        Shape `(channels,)`, float64, no unit, at least 0. A shift by one standard deviation
        alone is 0.125, a variance ratio of 10 alone 0.28. NaN where an input is NaN.
    """
    wide = np.float64
    now = np.maximum(variance.astype(wide), 0.0) + epsilon
    start = np.maximum(variance0.astype(wide), 0.0) + epsilon
    shift = mean.astype(wide) - mean0.astype(wide)
    both = now + start
    # At least 1 but for rounding; squared, as a root costs more than a product.
    standard_error = np.maximum(both * both / (4.0 * now * start), 1.0)
    return np.asarray(0.25 * (shift * shift / both + np.log(standard_error)))


class Drift(NamedTuple):
    """The three measures, each of the same shape.

    Attributes:
        mean_shift: see `mean_shift`.
        log_variance_ratio: see `log_variance_ratio`.
        distance: see `bhattacharyya`.
    """

    mean_shift: np.ndarray
    log_variance_ratio: np.ndarray
    distance: np.ndarray


class DriftMeter:
    """Measures drift from one start again and again.

    It gives `mean_shift`, `log_variance_ratio` and `bhattacharyya` of all channels at once, in
    float32 unless the statistics are wider, with what depends on the start computed once. With
    s = v + eps, the distance is
    (m - m0)^2 / (4 (s + s0)) + ln((s + s0) / 2) / 2 - (ln s + ln s0) / 4.

    Args:
        mean: moving mean at the start, shape `(channels,)`, any float dtype.
        variance: moving variance at the start, the same shape. A negative one counts as 0.
        epsilon: each channel's layer's own, the same shape.
    """

    def __init__(self, mean: np.ndarray, variance: np.ndarray, epsilon: np.ndarray) -> None:
        # A logarithm of float32 costs a fifth of one of float64, and equal statistics still
        # give exactly 0.
        self._dtype = np.result_type(mean.dtype, np.float32)
        self._epsilon = epsilon.astype(self._dtype)
        self._mean = mean.astype(self._dtype)
        with np.errstate(all="ignore"):
            self._variance = self._with_epsilon(variance)
            self._log = np.log(self._variance)

    def measure(self, mean: np.ndarray, variance: np.ndarray) -> Drift:
        """Measure the drift of every channel.

        Args:
            mean: moving mean now, shape `(channels,)`.
            variance: moving variance now, the same shape.

        Returns:
            Arrays of shape `(channels,)`, within 1e-5 of the functions of the same names.
        """
        with np.errstate(all="ignore"):
            now = self._with_epsilon(variance)
            log = np.log(now)
            shift = mean.astype(self._dtype) - self._mean
            middle = 0.5 * (now + self._variance)
            distance = 0.5 * (
                np.log(middle) - 0.5 * (log + self._log) + 0.25 * shift * shift / middle
            )
            return Drift(
                np.abs(shift) / np.sqrt(self._variance),
                np.abs(log - self._log),
                np.maximum(distance, 0),
            )

    def _with_epsilon(self, variance: np.ndarray) -> np.ndarray:
        wide = variance.astype(self._dtype, copy=False)
        return np.asarray(np.maximum(wide, 0) + self._epsilon)
