"""How sure a mean is: standard errors, in plain NumPy."""

from __future__ import annotations

from typing import Sequence, Union

import numpy as np

Values = Union[Sequence[float], np.ndarray]

RESAMPLES = 400


def standard_error(values: Values) -> float:
    """Standard error of the mean: the sample deviation over the root of the count.

    Args:
        values: independent values, shape `(n,)`.

    Returns:
        In the unit of the values; NaN for fewer than two.
    """
    if len(values) < 2:
        return float("nan")
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def bootstrap_standard_error(values: np.ndarray) -> float:
    """Standard error of the mean by bootstrap, 400 resamples of a fixed seed.

    Args:
        values: independent values, shape `(n,)`.

    Returns:
        In the unit of the values; NaN where there is none.
    """
    if not len(values):
        return float("nan")
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, len(values), (RESAMPLES, len(values)))
    return float(np.std(values[drawn].mean(axis=1)))
