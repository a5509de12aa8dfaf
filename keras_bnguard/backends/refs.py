"""A handle on one BN of a model: where its vectors and its flags are.

Records carry paths and numbers; a handle has the objects of Keras. Read from it for the length
of one call only: JAX replaces the values during an epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping, Optional, Tuple

from keras_bnguard.records import NormKind


@dataclass
class NormHandle:
    """One BN of a model.

    Attributes:
        path: the path of the BN.
        layer: the Keras layer whose `trainable` and `call` count.
        kind: a Keras layer, a torch module inside one, or only variables found by their names.
        vectors: returns (moving mean, moving variance, gamma, beta), variables of the backend
            of shape `(channels,)`, or None.
        settings: `momentum`, `epsilon`, `renorm`, `synchronized`, and `axis` for a Keras layer.
        class_name: the name of its class.
        own_flag: returns its `trainable`.
        module: the torch module for `NormKind.TORCH`. Defaults to None.
        builtin: whether it is Keras's own class and no subclass. Defaults to True.
    """

    path: str
    layer: Any
    kind: NormKind
    vectors: Callable[[], Tuple[Any, Any, Any, Any]]
    settings: Mapping[str, Any]
    class_name: str
    own_flag: Callable[[], bool]
    module: Optional[Any] = None
    builtin: bool = True
