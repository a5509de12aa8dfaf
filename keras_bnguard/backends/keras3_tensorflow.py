"""Keras 3 on TensorFlow: flags are baked into the traced step."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np

from keras_bnguard.backends.keras3 import Keras3Backend
from keras_bnguard.backends.values.tf_values import tf_compiled_probe, tf_reader, tf_to_numpy
from keras_bnguard.records import ChangeOutcome


class Keras3TensorFlowBackend(Keras3Backend):
    backend = "tensorflow"
    flags = "trace"

    def to_numpy(self, variable: Any) -> np.ndarray:
        return tf_to_numpy(variable)

    def reader(self, variables: Sequence[Any]) -> Callable[[], np.ndarray]:
        return tf_reader(variables)

    def compiled_probe(
        self, model: Any, traced: Callable[..., Any], training: bool = False
    ) -> Callable[[Any], Any]:
        mode = {"training": training} if self.takes_training(model) else {}
        run: Callable[[Any], Any] = tf_compiled_probe(model, traced, mode)
        return run

    def flip_outcome(self, model: Any, unknown: bool) -> ChangeOutcome:
        if getattr(model, "run_eagerly", False):
            return ChangeOutcome.RAISES if unknown else ChangeOutcome.LIVE
        return (
            ChangeOutcome.IGNORED
            if self.step_is_built(model)
            else (ChangeOutcome.RAISES if unknown else ChangeOutcome.LIVE)
        )
