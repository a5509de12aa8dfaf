"""Real handwritten digits, split into a source task and a shifted target task with few labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import numpy as np

from keras_bnguard.errors import MissingExtraError


@dataclass(frozen=True)
class Digits:
    """Images `(rows, 8, 8, 1)`, float32 in about [0, 1]; labels 0 to 4.

    Attributes:
        source: digits 0 to 4 as scanned.
        train: digits 5 to 9 under other lighting.
        held_out: the same, other rows.
    """

    source: Tuple[np.ndarray, np.ndarray]
    train: Tuple[np.ndarray, np.ndarray]
    held_out: Tuple[np.ndarray, np.ndarray]


def load_digits(seed: int, labelled: int, held_out: int) -> Digits:
    """Split scikit-learn's digits.

    The target's images are inverted, with half the contrast and some noise: `1 - x / 2 + e`,
    e normal with standard deviation 0.05.

    Args:
        seed: decides the order of the rows and the noise.
        labelled: target rows to train on.
        held_out: target rows to measure on, taken from the others.

    Returns:
        The images and labels of both tasks.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise missing("scikit-learn") from error
    raw = datasets.load_digits()
    random = np.random.default_rng(seed)
    order = random.permutation(len(raw.target))
    x = (raw.images[order, ..., None] / 16.0).astype("float32")
    y = raw.target[order].astype("int32")
    low = y < 5
    noise = random.normal(0.0, 0.05, x[~low].shape)
    shifted = (1.0 - 0.5 * x[~low] + noise).astype("float32")
    labels = y[~low] - 5
    rest = slice(labelled, labelled + held_out)
    return Digits(
        source=(x[low], y[low]),
        train=(shifted[:labelled], labels[:labelled]),
        held_out=(shifted[rest], labels[rest]),
    )


def missing(package: str) -> MissingExtraError:
    """The error for a package that the demo needs and that is not installed."""
    return MissingExtraError(
        f"the demo needs {package}, which is not installed: pip install 'keras_bnguard[demo]'"
    )
