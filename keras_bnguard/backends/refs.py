"""A handle on one BN of a live model: where its vectors and its flags are.

Handles never leave a stage: records carry paths and numbers, handles the objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping, Optional, Tuple

from keras_bnguard.records import NormKind


@dataclass
class NormHandle:
    """path: where it is. layer: the Keras layer whose `trainable` and `call` count.
    vectors: gives (mean, variance, gamma, beta), backend variables or None.
    settings: momentum, epsilon, renorm, synchronized. own_flag: its `trainable`.
    module: the torch module for `NormKind.TORCH`, else None."""

    path: str
    layer: Any
    kind: NormKind
    vectors: Callable[[], Tuple[Any, Any, Any, Any]]
    settings: Mapping[str, Any]
    class_name: str
    own_flag: Callable[[], bool]
    module: Optional[Any] = None
    builtin: bool = True
