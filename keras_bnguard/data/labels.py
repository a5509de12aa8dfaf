"""Class labels of batches: how many classes, and how the batches divide them."""

from __future__ import annotations

from typing import Any, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.data.batch import Batch
from keras_bnguard.records import Labels


def describe_labels(batches: Sequence[Batch]) -> Optional[Labels]:
    """The class labels of the batches; None where there is not one class label a row."""
    columns = [_classes(batch.y) for batch in batches]
    if not columns or any(column is None for column in columns):
        return None
    kept = [np.asarray(column[0]) for column in columns if column is not None]
    one_hot_width = max(column[1] for column in columns if column is not None)
    found, codes = np.unique(np.concatenate(kept), return_inverse=True)
    ends = np.cumsum([len(column) for column in kept])
    parts = np.split(codes, ends[:-1])
    inside = sum(len(part) * _gini(part) for part in parts) / len(codes)
    whole = _gini(codes)
    return Labels(
        n_classes=len(found),
        batches=len(parts),
        single_class_batches=sum(len(np.unique(part)) == 1 for part in parts),
        within_batch_variance_ratio=float(inside / whole) if whole > 0 else 1.0,
        one_hot_width=one_hot_width,
    )


def _gini(codes: np.ndarray) -> float:
    """Sum of the variances of the one-hot labels: 1 - sum of squared shares."""
    shares = np.bincount(codes) / len(codes)
    return float(1.0 - np.sum(shares**2))


def _classes(y: Any) -> Optional[Tuple[np.ndarray, int]]:
    """(label of each row, columns of one-hot labels or 0) of one target."""
    if isinstance(y, (list, dict)):
        parts = list(y.values()) if isinstance(y, dict) else y
        return next((found for part in parts if (found := _classes(part)) is not None), None)
    if not isinstance(y, np.ndarray) or y.ndim == 0 or y.dtype.kind not in "biuf":
        return None
    if y.ndim == 2 and y.shape[1] > 1:
        one_hot = np.all((y == 0) | (y == 1)) and np.all(np.sum(y, 1) == 1)
        return (np.argmax(y, 1), y.shape[1]) if one_hot else None
    if y.ndim > 2 or y.size != len(y):
        return None
    flat = y.reshape(-1)
    if y.dtype.kind == "f" and not np.all((flat == 0) | (flat == 1)):
        return None
    return flat.astype(np.int64), 0
