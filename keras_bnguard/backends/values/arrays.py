"""Arrays and tensors of any framework as NumPy, without importing a framework."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_bnguard.errors import DataError


def to_numpy(value: Any) -> Any:
    """Return an array or tensor as a NumPy array; None, and NumPy arrays, as they are.

    Args:
        value: None, or an array or tensor of any shape and dtype, on any device; a table or a
            column of pandas or polars.

    Raises:
        DataError: a ragged or sparse tensor.
    """
    if value is None or isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach"):  # torch
        return value.detach().cpu().numpy()
    if hasattr(value, "row_splits") or hasattr(value, "dense_shape"):
        raise DataError(
            f"{type(value).__name__} has no rows of one shape. Pass dense batches: to_tensor() of "
            "a ragged tensor, tf.sparse.to_dense of a sparse one."
        )
    if is_table(value):
        return value.to_numpy()
    if hasattr(value, "numpy"):  # TensorFlow
        return value.numpy()
    return np.asarray(value)


def is_table(value: Any) -> bool:
    """Whether something is a table or a column of pandas or polars."""
    kind = type(value)
    return kind.__name__ in ("DataFrame", "Series") and hasattr(kind, "to_numpy")
