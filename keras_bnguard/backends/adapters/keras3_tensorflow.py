"""Keras 3 on TensorFlow: flags become part of the traced step."""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence

import numpy as np

from keras_bnguard.backends.adapters.keras3 import (
    Keras3Flags,
    Keras3Graph,
    Keras3Optimizer,
    Keras3Step,
    Keras3Values,
)
from keras_bnguard.backends.base import Parts
from keras_bnguard.backends.values.tf_values import (
    tf_assign,
    tf_compiled_probe,
    tf_copies,
    tf_in_graph_mode,
    tf_outside_trace,
    tf_reader,
    tf_to_numpy,
    tf_variable_number,
)
from keras_bnguard.records import ChangeOutcome, FlagTiming


class TensorFlowFlags(Keras3Flags):
    """A flag that is changed after the first step has no effect, but for eager steps."""

    timing = FlagTiming.FIRST_STEP

    def change_outcome(self, model: Any, unknown: bool) -> ChangeOutcome:
        if getattr(model, "run_eagerly", False):
            return ChangeOutcome.RAISES if unknown else ChangeOutcome.IMMEDIATE
        if self._optimizer.iterations(model) > 0:
            return ChangeOutcome.IGNORED
        return ChangeOutcome.RAISES if unknown else ChangeOutcome.IMMEDIATE

    def compile_number(self, model: Any) -> Optional[int]:
        """`compile()` makes a new tracker of the loss."""
        total = getattr(getattr(model, "_loss_tracker", None), "total", None)
        return tf_variable_number(getattr(total, "value", None))


class TensorFlowStep(Keras3Step):
    """A step is traced into a graph."""

    def outside_trace(self) -> Any:
        return tf_outside_trace()

    def in_graph_mode(self) -> bool:
        return tf_in_graph_mode()


class TensorFlowValues(Keras3Values):
    """TensorFlow variables, wrapped by Keras."""

    def to_numpy(self, variable: Any) -> np.ndarray:
        return tf_to_numpy(variable)

    def reader(self, variables: Sequence[Any]) -> Callable[[], np.ndarray]:
        return tf_reader(variables)

    def copies(self, variable: Any) -> List[Any]:
        return tf_copies(variable)

    def assign(self, variable: Any, value: np.ndarray) -> None:
        tf_assign(variable, value)

    def compiled_probe(
        self, model: Any, traced: Callable[..., Any], training: bool = False
    ) -> Callable[[Any], Any]:
        return tf_compiled_probe(model, traced, training)


PARTS = Parts(Keras3Graph, TensorFlowFlags, Keras3Optimizer, TensorFlowStep, TensorFlowValues)
