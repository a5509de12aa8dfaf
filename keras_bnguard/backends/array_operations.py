"""The few array operations that a probe needs; each array library writes one subclass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, List, Sequence


class ArrayOperations(ABC):
    """Array operations inside the call of a model: on tensors, traced where calls are traced."""

    @abstractmethod
    def cast(self, x: Any, like: Any = None) -> Any:
        """Return `x` as float32, or in the dtype of `like`."""

    @abstractmethod
    def mean(self, x: Any, axes: List[int], weights: Any) -> Any:
        """Return the mean over `axes`; `weights` is None, or 0/1 and of the shape of `x`."""

    @abstractmethod
    def count(self, x: Any, axes: List[int], weights: Any) -> Any:
        """Return how many values the mean of one channel is over, as a float32 scalar."""

    @abstractmethod
    def weights(self, mask: Any, x: Any) -> Any:
        """Return a mask without channel axis, repeated for each channel of `x`, as float32."""

    @abstractmethod
    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        """Return `x` in another shape."""

    @abstractmethod
    def rsqrt(self, x: Any) -> Any:
        """Return the reciprocal square root of each element."""
