"""A limit to the weights that layers may create, checked before each is made."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from typing import Any, Callable, Iterator, Optional

from keras_bnguard.errors import ModelFileError


class WeightBudget:
    """Counts the values of the weights that are created.

    Args:
        values: how many may be.

    Attributes:
        created: how many were asked for so far.
        error: what was raised, None where nothing was. Keras may raise another in its place.
    """

    def __init__(self, values: int) -> None:
        self.values = values
        self.created = 0
        self.error: Optional[ModelFileError] = None

    def ask(self, layer: Any, shape: Any) -> None:
        """Count one weight.

        Raises:
            ModelFileError: with it there are more than `values`.
        """
        self.created += _size(shape)
        if self.created > self.values:
            self.error = ModelFileError(
                f"{type(layer).__name__} {str(getattr(layer, 'name', ''))[:80]!r} would make a "
                f"weight of shape {str(shape)[:80]}, and the file has values for less"
            )
            raise self.error


def _size(shape: Any) -> int:
    try:
        sizes = [int(each or 0) for each in shape or ()]
    except (TypeError, ValueError):
        return 1  # No shape: Keras has its own words for it.
    return math.prod(max(each, 0) for each in sizes)


@contextlib.contextmanager
def weight_budget(layer_class: Any, values: int) -> Iterator[WeightBudget]:
    """Limit what every `add_weight` creates while the block runs.

    Args:
        layer_class: `keras.layers.Layer`.
        values: number of values that all weights together may have.
    """
    budget = WeightBudget(values)
    original: Callable[..., Any] = layer_class.add_weight
    signature = inspect.signature(original)

    @functools.wraps(original)
    def add_weight(self: Any, *args: Any, **kwargs: Any) -> Any:
        with contextlib.suppress(TypeError):
            budget.ask(self, signature.bind(self, *args, **kwargs).arguments.get("shape"))
        return original(self, *args, **kwargs)

    layer_class.add_weight = add_weight
    try:
        yield budget
    finally:
        layer_class.add_weight = original
