"""Keras 3 on JAX: during an epoch the values live outside the model, in positional lists."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np

from keras_bnguard.backends.keras3 import Keras3Backend, steps_taken
from keras_bnguard.backends.training import inner_optimizer
from keras_bnguard.backends.values.readers import jax_joined
from keras_bnguard.records import ChangeOutcome


class Keras3JaxBackend(Keras3Backend):
    backend = "jax"
    flags = "positional"

    def to_numpy(self, variable: Any) -> np.ndarray:
        return np.array(getattr(variable, "value", variable), copy=True)

    def reader(self, variables: Sequence[Any]) -> Callable[[], np.ndarray]:
        if not variables:
            return lambda: np.zeros((0,), np.float32)
        # `value` would ask for every variable whether a stateless scope or autocast is in force.
        return lambda: jax_joined([getattr(v, "_value", v) for v in variables])

    def compiled_probe(
        self, model: Any, traced: Callable[..., Any], training: bool = False
    ) -> Callable[[Any], Any]:
        import jax

        mode = {"training": training} if self.takes_training(model) else {}

        def traced_run(trainable: Any, non_trainable: Any, x: Any) -> Any:
            return traced(lambda: model.stateless_call(trainable, non_trainable, x, **mode)[0])

        run = jax.jit(traced_run)

        def call(x: Any) -> Any:
            trainable = [v.value for v in model.trainable_variables]
            fixed = [v.value for v in model.non_trainable_variables]
            return run(trainable, fixed, x)

        return call

    def iterations(self, model: Any) -> int:
        """As elsewhere; inside an epoch the count is in the list of optimizer variables."""
        if not self.mid_epoch(model):
            return self._kept_iterations(model)
        kept = model._jax_state.get("optimizer_variables") or ()
        count = steps_taken(inner_optimizer(model.optimizer))
        found = [v for ref, v in zip(model.optimizer.variables, kept) if ref is count]
        return int(np.asarray(found[0])) if found else 0

    def _kept_iterations(self, model: Any) -> int:
        try:
            return super().iterations(model)
        except TypeError:  # a step that raised took the values with it
            return 0

    def sync(self, model: Any) -> None:
        if hasattr(model, "jax_state_sync"):
            model.jax_state_sync()

    def mid_epoch(self, model: Any) -> bool:
        """Whether the values are outside the model now, so that a flip would mix them up."""
        return bool(getattr(model, "_jax_state", None)) and not getattr(
            model, "_jax_state_synced", True
        )

    def flip_outcome(self, model: Any, unknown: bool) -> ChangeOutcome:
        facts = self.optimizer_facts(model)
        if facts is None or not facts.built:
            return ChangeOutcome.LIVE
        return ChangeOutcome.RAISES if facts.unknown or facts.stale else ChangeOutcome.LIVE
