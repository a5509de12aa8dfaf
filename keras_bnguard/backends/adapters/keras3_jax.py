"""Keras 3 on JAX: during an epoch the values are outside the model, in positional lists."""

from __future__ import annotations

from typing import Any, Callable, Optional, Sequence

import numpy as np

from keras_bnguard.backends.adapters.keras3 import (
    Keras3Flags,
    Keras3Graph,
    Keras3Optimizer,
    Keras3Step,
    Keras3Values,
)
from keras_bnguard.backends.base import Parts
from keras_bnguard.backends.optimizers.lazy import step_counter
from keras_bnguard.backends.optimizers.renewal import inner_optimizer
from keras_bnguard.backends.signatures import takes_training
from keras_bnguard.backends.values.jax_arrays import jax_joined
from keras_bnguard.backends.values.readers import JaxLiveReader, LiveReader
from keras_bnguard.records import ChangeOutcome, FlagTiming


class JaxFlags(Keras3Flags):
    """A changed flag moves variables to other places of the lists, so the next step raises."""

    timing = FlagTiming.POSITIONAL

    def change_outcome(self, model: Any, unknown: bool) -> ChangeOutcome:
        facts = self._optimizer.facts(model)
        if facts is None or not facts.built:
            return ChangeOutcome.IMMEDIATE
        return ChangeOutcome.RAISES if facts.unknown or facts.stale else ChangeOutcome.IMMEDIATE


class JaxOptimizer(Keras3Optimizer):
    """During an epoch the step count is in the list of optimizer variables."""

    def iterations(self, model: Any) -> int:
        if not self._values.outside_model(model):
            return super().iterations(model)
        kept = model._jax_state.get("optimizer_variables") or ()
        count = step_counter(inner_optimizer(model.optimizer))
        found = [v for ref, v in zip(model.optimizer.variables, kept) if ref is count]
        return int(np.asarray(found[0])) if found else 0


class JaxStep(Keras3Step):
    """A step takes all values as arguments and returns them."""

    def rebuild_train_function(self, model: Any) -> None:
        """As in the base class; up to 3.11 Keras records once per `fit` how the values of a step
        are sharded, in the order of its variables, which is another one now."""
        super().rebuild_train_function(model)
        record = getattr(model, "_record_training_state_sharding_spec", None)
        if record is not None:
            record()

    def outside_trace(self) -> Any:
        import jax

        return jax.ensure_compile_time_eval()

    def step_state(self, carried: Any) -> Optional[Sequence[Any]]:
        state: Sequence[Any] = carried[-1]
        return state

    def leave_step(self, model: Any, carried: Any) -> None:
        names = ("trainable", "non_trainable", "optimizer", "metrics")
        model._jax_state = {f"{name}_variables": v for name, v in zip(names, carried[-1])}
        model._jax_state_synced = False
        model.jax_state_sync()


class JaxValues(Keras3Values):
    """JAX arrays; a compiled step takes all state as arguments and returns new arrays."""

    calls_assign = False

    def to_numpy(self, variable: Any) -> np.ndarray:
        return np.array(getattr(variable, "value", variable), copy=True)

    def reader(self, variables: Sequence[Any]) -> Callable[[], np.ndarray]:
        if not variables:
            return super().reader(variables)
        # `value` would ask for every variable whether a stateless scope or autocast is in force.
        return lambda: jax_joined([getattr(v, "_value", v) for v in variables])

    def live_reader(self, model: Any, variables: Sequence[Any]) -> LiveReader:
        return JaxLiveReader(model, variables, self.sync, self.reader(variables))

    def sync(self, model: Any) -> None:
        if hasattr(model, "jax_state_sync"):
            model.jax_state_sync()

    def outside_model(self, model: Any) -> bool:
        return bool(getattr(model, "_jax_state", None)) and not getattr(
            model, "_jax_state_synced", True
        )

    def compiled_probe(
        self, model: Any, traced: Callable[..., Any], training: bool = False
    ) -> Callable[[Any], Any]:
        import jax

        mode = {"training": training} if takes_training(model) else {}

        def traced_run(trainable: Any, non_trainable: Any, x: Any) -> Any:
            return traced(lambda: model.stateless_call(trainable, non_trainable, x, **mode)[0])

        run = jax.jit(traced_run)

        def call(x: Any) -> Any:
            trainable = [v.value for v in model.trainable_variables]
            fixed = [v.value for v in model.non_trainable_variables]
            return run(trainable, fixed, x)

        return call


PARTS = Parts(Keras3Graph, JaxFlags, JaxOptimizer, JaxStep, JaxValues)
