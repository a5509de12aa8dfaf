"""What is noted of one call of a BN: the `training` value, and the size of the input."""

from __future__ import annotations

from typing import Any, Optional


def plain(value: Any) -> Any:
    """True, False or None as they are (0 and 1 too), "tensor" for anything else."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return bool(value)
    return "tensor"


def values_per_channel(axis: Any, inputs: Any, first_axis: int = 0) -> Optional[int]:
    """Return the number of values of an input along all axes but the channel axis.

    Args:
        axis: the channel axis, or several.
        inputs: a tensor.
        first_axis: the first that counts: 1 leaves out the batch. Defaults to 0.
    """
    try:
        shape = [None if d is None else int(d) for d in inputs.shape]
        axes = list(axis) if isinstance(axis, (list, tuple)) else [axis]
        drop = {int(a) % len(shape) for a in axes}
        rest = [d for i, d in enumerate(shape) if i not in drop and i >= first_axis]
        if any(d is None for d in rest):
            return None
        product = 1
        for d in rest:
            product *= int(d or 0)
        return product
    except Exception:
        return None
