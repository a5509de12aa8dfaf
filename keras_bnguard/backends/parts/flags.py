"""The `trainable` flags of layers: those of now, and those that a model was compiled with."""

from __future__ import annotations

from typing import Any, Dict, Optional

from keras_bnguard.backends.interface import FlagsInterface
from keras_bnguard.backends.parts.graph import Graph
from keras_bnguard.backends.parts.optimizer import Optimizer
from keras_bnguard.backends.values.base import Values
from keras_bnguard.records.ids import LayerId, layer_id


class Flags(FlagsInterface):
    """What is the same in every Keras.

    Args:
        graph: the graph interface of the same Keras.
        optimizer: its optimizer interface.
        values: its values interface.
    """

    def __init__(self, graph: Graph, optimizer: Optimizer, values: Values) -> None:
        self._graph = graph
        self._optimizer = optimizer
        self._values = values

    def compiled(self, model: Any) -> Optional[Dict[LayerId, bool]]:
        """Return `id(layer) -> trainable` at `compile()`, None where Keras keeps no record."""
        state = getattr(model, "_compiled_trainable_state", None)
        if not state:
            return None
        return {layer_id(layer): bool(flag) for layer, flag in state.items()}

    def pending(self, model: Any) -> Dict[LayerId, bool]:
        """Return flags that the user set and that Keras puts back only when `fit` ends.

        Returns:
            `id(layer) -> trainable`; empty outside `fit`, and for a Keras that does no such thing.
        """
        return {}

    def was_compiled_after(self, model: Any, other: Any) -> bool:
        """Return whether a model was compiled after another one; False where it is not known."""
        first, second = self.compile_number(other), self.compile_number(model)
        return first is not None and second is not None and first < second

    def compile_number(self, model: Any) -> Optional[int]:
        """Return a number that grows from one `compile()` of any model to the next.

        Returns:
            None where this Keras counts nothing.
        """
        return None
