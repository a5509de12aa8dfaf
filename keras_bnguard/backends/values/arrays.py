"""Arrays and tensors of any framework as NumPy, without importing a framework."""

from __future__ import annotations

from typing import Any

import numpy as np


def to_numpy(value: Any) -> Any:
    """Return an array or tensor as a NumPy array; None, and NumPy arrays, as they are.

    Args:
        value: None, or an array or tensor of any shape and dtype, on any device.
    """
    if value is None or isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach"):  # torch
        return value.detach().cpu().numpy()
    if hasattr(value, "numpy"):  # TensorFlow
        return value.numpy()
    return np.asarray(value)
