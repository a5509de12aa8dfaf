"""How far moving statistics are from where they started, per channel and per layer."""

from __future__ import annotations

import functools
from typing import Any, Callable, Tuple

import numpy as np

# Limit of BNG406, per layer: mean Bhattacharyya distance of its channels. Correct fine-tuning
# stayed below 0.03; from 0.06 on, statistics alone cost every net of the experiment in
# docs/statistics.md more than five points of accuracy.
MAX_DISTANCE = 0.1

_BLOCK = 8192


def _in_blocks(measure: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Work on 4096 channels at a time: the temporaries stay in the cache, which makes a look at
    26,000 channels several times cheaper."""

    @functools.wraps(measure)
    def blockwise(*vectors: Any) -> np.ndarray:
        size = len(vectors[0]) if np.ndim(vectors[0]) else 0
        if size <= _BLOCK:
            return measure(*vectors)
        found = np.empty(size, np.float64)
        for begin in range(0, size, _BLOCK):
            here = slice(begin, begin + _BLOCK)
            found[here] = measure(*(v[here] if np.ndim(v) else v for v in vectors))
        return found

    return blockwise


@_in_blocks
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


@_in_blocks
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


@_in_blocks
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


class Start:
    """The statistics that drift is measured from, with what is the same at every look.

    Args:
        mean, variance: shape `(channels,)`, any float dtype. A negative variance counts as 0.
        epsilon: each channel's layer's own, shape `(channels,)`.
    """

    def __init__(self, mean: np.ndarray, variance: np.ndarray, epsilon: np.ndarray) -> None:
        # float32 unless the statistics are wider: a logarithm costs a fifth of a wide one, and
        # equal statistics still give exactly 0.
        self._dtype = np.result_type(mean.dtype, np.float32)
        self._epsilon = epsilon.astype(self._dtype)
        self._mean = mean.astype(self._dtype)
        with np.errstate(all="ignore"):
            self._variance = self._with_epsilon(variance)
            self._scale = 1 / np.sqrt(self._variance)
            self._log = np.log(self._variance)

    def _with_epsilon(self, variance: np.ndarray) -> np.ndarray:
        wide = variance.astype(self._dtype, copy=False)
        return np.asarray(np.maximum(wide, 0) + self._epsilon)

    def measures(self, mean: np.ndarray, variance: np.ndarray) -> Tuple[np.ndarray, ...]:
        """`mean_shift`, `log_variance_ratio` and `bhattacharyya` of all channels in one pass.

        With ln s for the logarithm of a variance plus epsilon, the distance is
        (m - m0)^2 / (4 (s + s0)) + ln((s + s0) / 2) / 2 - (ln s + ln s0) / 4.

        Args:
            mean, variance: shape `(channels,)`, of now.

        Returns:
            Three arrays of shape `(channels,)`, float32 or as wide as the statistics: within
            1e-5 of the functions of those names.
        """
        found = tuple(np.empty(len(self._mean), self._dtype) for _ in range(3))
        size = min(len(self._mean), _BLOCK)
        scratch = tuple(np.empty(size, self._dtype) for _ in range(4))
        with np.errstate(all="ignore"):
            for begin in range(0, len(self._mean), _BLOCK):
                here = slice(begin, begin + _BLOCK)
                used = tuple(each[: len(self._mean) - begin] for each in scratch)
                self._measure(here, mean[here], variance[here], used, found)
        return found

    def _measure(
        self,
        here: slice,
        mean: np.ndarray,
        variance: np.ndarray,
        scratch: Tuple[np.ndarray, ...],
        found: Tuple[np.ndarray, ...],
    ) -> None:
        """One block, in place: temporaries cost more than what is done with them."""
        apart, log, shift, square = scratch
        log0 = self._log[here]
        shifts, ratios, distances = (each[here] for each in found)
        np.maximum(variance, 0, out=apart)
        apart += self._epsilon[here]
        np.log(apart, out=log)
        apart += self._variance[here]
        apart *= 0.5
        np.subtract(mean, self._mean[here], out=shift)
        np.multiply(shift, shift, out=square)
        square /= apart
        square *= 0.25
        np.log(apart, out=apart)
        np.abs(shift, out=shifts)
        shifts *= self._scale[here]
        np.subtract(log, log0, out=ratios)
        np.abs(ratios, out=ratios)
        log += log0
        log *= 0.5
        apart -= log
        apart += square
        apart *= 0.5
        np.maximum(apart, 0, out=distances)


def layer_means(values: np.ndarray, offsets: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Mean of the channel values of each layer of a joined array, summed in float64.

    Args:
        values: shape `(all channels,)`.
        offsets: index where each layer begins, strictly increasing, first 0; shape `(layers,)`.
        sizes: channels of each layer, shape `(layers,)`.

    Returns:
        Shape `(layers,)`, float64.
    """
    if not len(offsets):
        return np.zeros(0)
    return np.asarray(np.add.reduceat(values, offsets, dtype=np.float64) / sizes)


def average_of_batches(
    now: np.ndarray, start: np.ndarray, initial_weight: np.ndarray
) -> np.ndarray:
    """The average that batches alone would have left: (m_t - w m_0) / (1 - w).

    An exponential moving average is m_t = w m_0 + (1 - w) a, where w = momentum ** updates is
    what is left of the start and a is a weighted average of what the batches had.

    Args:
        now, start: shape `(channels,)`. initial_weight: w, the same shape, below 1.

    Returns:
        Shape `(channels,)`, float64.
    """
    w = np.minimum(initial_weight, 1.0 - 1e-9)
    return np.asarray((now.astype(np.float64) - w * start.astype(np.float64)) / (1.0 - w))


def remaining_change(now: np.ndarray, last: np.ndarray, left: np.ndarray) -> np.ndarray:
    """How far a moving average that nears a fixed value still has to go: d q / (1 - q).

    In some updates it moved by d = now - last and q = momentum ** updates of the way was left,
    so that d = (1 - q) of the way at `last` and q / (1 - q) of d is still to come.

    Args:
        now, last: shape `(channels,)`. left: q, the same shape, below 1.

    Returns:
        Shape `(channels,)`, float64, signed.
    """
    q = np.minimum(left, 1.0 - 1e-9)
    return np.asarray((now.astype(np.float64) - last.astype(np.float64)) * q / (1.0 - q))
