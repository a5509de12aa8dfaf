"""Keras 2: tf.keras 2.12 to 2.15, and tf_keras on any TensorFlow."""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.base import Backend, inner_optimizer
from keras_bnguard.backends.learning_rates import innermost, move_factors
from keras_bnguard.backends.optimizers import (
    carry_slots,
    fresh_optimizer,
    rate_function,
    strategy_scope,
    tell_saved_config,
)
from keras_bnguard.backends.values.probe import ProbeMath
from keras_bnguard.backends.values.probe_ops import TensorFlowOps
from keras_bnguard.backends.values.tf_values import tf_compiled_probe, tf_reader, tf_to_numpy
from keras_bnguard.records import ChangeOutcome, OptimizerFacts


class Keras2Backend(Backend):
    """Keras 2 puts the flags of `compile()` back for the length of `fit`, honours graph
    arguments, and keeps what the user flipped since then aside until `fit` returns."""

    backend = "tensorflow"
    flags = "compile"

    @property
    def stack_name(self) -> str:
        return "tfk" if self.package == "tf_keras" else "k2"

    # --------------------------------------------------------------- structure
    def children(self, layer: Any) -> List[Any]:
        return list(layer._flatten_layers(recursive=False, include_self=False))

    def node_class(self) -> Optional[type]:
        places = (f"{self.package}.src.engine.node", f"{self.package}.engine.node")
        module = next((sys.modules[name] for name in places if name in sys.modules), None)
        return getattr(module, "Node", None)

    def graph_nodes(self, layer: Any) -> List[Tuple[Any, Any]]:
        by_depth = getattr(layer, "_nodes_by_depth", None) or {}
        return [
            (node, node.layer)
            for depth in sorted(by_depth, reverse=True)
            for node in by_depth[depth]
            if not node.is_input
        ]

    def _node_arguments(self, node: Any) -> Tuple[Sequence[Any], Dict[str, Any]]:
        return node.call_args or (), node.call_kwargs or {}

    def _node_layer(self, node: Any) -> Any:
        return node.layer

    def steps_per_execution(self, model: Any) -> int:
        kept = getattr(model, "_steps_per_execution", None)
        if kept is None:
            return 1
        with sys.modules["tensorflow"].init_scope():  # A guarded step asks while it is traced.
            return int(kept.numpy())

    def owns_weights(self, layer: Any) -> bool:
        return bool(layer._trainable_weights or layer._non_trainable_weights)

    def own_variables(self, layer: Any) -> List[Any]:
        return list(layer._trainable_weights) + list(layer._non_trainable_weights)

    # -------------------------------------------------------------------- files
    def load_saved_model(self, folder: str, description: Any) -> Any:
        model = self.keras.models.model_from_json(json.dumps(description))
        # The values are a checkpoint of their own; reading one runs nothing.
        values = model.load_weights(os.path.join(folder, "variables", "variables"))
        values.assert_existing_objects_matched().expect_partial()
        return model

    # -------------------------------------------------------------- BN handles
    def norm_classes(self) -> Tuple[type, ...]:
        base = self.keras.layers.BatchNormalization
        for cls in base.__mro__:
            if cls.__name__ == "BatchNormalizationBase":
                return (cls,)
        return (base,)

    def is_builtin(self, layer: Any) -> bool:
        return super().is_builtin(layer) and bool(getattr(layer, "_USE_V2_BEHAVIOR", True))

    # ------------------------------------------------------------------- flags
    def compiled_flags(self, model: Any) -> Optional[Dict[int, bool]]:
        # A graph keeps such a state from its making on, before any `compile()`.
        return super().compiled_flags(model) if getattr(model, "optimizer", None) else None

    def pending_flags(self, model: Any) -> Dict[int, bool]:
        """What the user flipped since `compile()`: inside `fit` Keras 2 keeps it in the
        object that restores the flags, which only holds the model's compile-time state."""
        if not getattr(model, "_compiled_trainable_state", None):
            return {}
        # The youngest first: `fit` made it a moment ago. `gc.get_referrers` would be shorter and
        # is not safe: it goes into every object there is, also those other threads are making.
        for generation in range(3):
            for thing in reversed(gc.get_objects(generation=generation)):
                if type(thing).__name__ != "RespectCompiledTrainableState":
                    continue
                if thing._model is model:
                    current = (
                        thing._current_trainable_state if thing._should_set_trainable else None
                    )
                    return {id(layer): bool(flag) for layer, flag in (current or {}).items()}
        return {}

    def flip_outcome(self, model: Any, unknown: bool) -> ChangeOutcome:
        return ChangeOutcome.IGNORED

    def set_own_flag(self, layer: Any, flag: bool) -> None:
        layer._trainable = bool(flag)

    def remember_compiled_flags(self, model: Any) -> None:
        # Past Keras's own __setattr__, which would track the layers in it.
        object.__setattr__(model, "_compiled_trainable_state", model._get_trainable_state())

    def random_states(self) -> List[Tuple[Callable[[Any], Any], Any]]:
        """That of the seeds Keras 2 gives to operations; there once a seed was set."""
        module = sys.modules.get(f"{self.package}.src.backend")
        generator = getattr(getattr(module, "_SEED_GENERATOR", None), "generator", None)
        return [] if generator is None else [(generator.setstate, generator.getstate())]

    # --------------------------------------------------------------- optimizer
    def regularization_losses(self, layer: Any) -> float:
        return sum(float(term()) for term in layer._callable_losses)

    def renew_optimizer(
        self, model: Any, carry: bool = True, schedule: Optional[Any] = None
    ) -> Tuple[int, int]:
        with strategy_scope(model):
            return self._renew_optimizer(model, carry, schedule)

    def _renew_optimizer(self, model: Any, carry: bool, schedule: Any) -> Tuple[int, int]:
        old = model.optimizer
        inner = inner_optimizer(old)
        variables = list(model.trainable_variables)
        if not hasattr(inner, "_build_index_dict"):
            return _renew_legacy(model, variables, carry, schedule)
        known = getattr(inner, "_index_dict", None) or {}
        place = {inner._var_key(v): v for v in model.variables} if known else {}
        old_variables = [place.get(key, key) for key in known]
        new = fresh_optimizer(old, schedule)
        new_inner = inner_optimizer(new)
        new_inner.build(variables)
        carried = 0
        if carry:
            carried, _ = carry_slots(inner, old_variables, new_inner, variables)
            new_inner.iterations.assign(inner.iterations)
            _carry_loss_scale(old, new)
        move_factors(old, new)
        tell_saved_config(model, new)
        model.optimizer = new
        return carried, len(variables) - carried

    def check_renewable(self, model: Any, learning_rates: Sequence[Any], reset: bool) -> None:
        if reset or hasattr(inner_optimizer(model.optimizer), "_build_index_dict"):
            super().check_renewable(model, learning_rates, reset)

    def _scheduled_rate(self, optimizer: Any) -> Any:
        # Of the new optimizers `learning_rate` is that of the step before, of the legacy ones
        # the schedule itself.
        return rate_function(optimizer)(optimizer.iterations)  # type: ignore[misc]

    def _optimizer_variables(self, model: Any) -> List[Any]:
        scale = getattr(model.optimizer, "_loss_scale", None)
        found = [getattr(scale, name, None) for name in _LOSS_SCALE]
        return super()._optimizer_variables(model) + [v for v in found if v is not None]

    def trainable_count(self, layer: Any) -> int:
        return int(sum(np.prod(v.shape) for v in layer._trainable_weights))

    def optimizer_facts(self, model: Any) -> Optional[OptimizerFacts]:
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            return None
        inner = getattr(optimizer, "inner_optimizer", None) or optimizer
        known = getattr(inner, "_index_dict", None) or {}
        built = bool(known)
        unknown: Tuple[str, ...] = ()
        if built and not self.has_own_step(model):
            unknown = tuple(
                v.name.split(":")[0]
                for v in model.trainable_variables
                if inner._var_key(v) not in known
            )
        return OptimizerFacts(
            class_name=type(inner).__name__,
            built=built,
            iterations=self.iterations(model),
            unknown=unknown,
        )

    # ----------------------------------------------------------------- numbers
    def to_numpy(self, variable: Any) -> np.ndarray:
        return tf_to_numpy(variable)

    def reader(self, variables: Sequence[Any]) -> Callable[[], np.ndarray]:
        return tf_reader(variables)

    # ------------------------------------------------------------------ probes
    def probe_math(self) -> ProbeMath:
        return TensorFlowOps()

    def compiled_probe(
        self, model: Any, traced: Callable[..., Any], training: bool = False
    ) -> Callable[[Any], Any]:
        mode = {"training": training} if self.takes_training(model) else {}
        run: Callable[[Any], Any] = tf_compiled_probe(model, traced, mode)
        return run


def _renew_legacy(model: Any, variables: List[Any], carry: bool, schedule: Any) -> Tuple[int, int]:
    """Optimizers of `keras.optimizers.legacy` take in variables whenever they meet them."""
    old = model.optimizer
    if carry:
        if schedule is not None:
            _give_legacy(innermost(old), schedule)
        unknown = _without_average(old, variables)
        old._create_all_weights(variables)
        for variable in unknown:
            # `SWA` begins averages at zero, and counts the snapshots taken before as theirs.
            old.get_slot(variable, "average").assign(variable)
        return len(variables), 0
    new = fresh_optimizer(old, schedule)
    new._create_all_weights(variables)
    move_factors(model.optimizer, new)
    tell_saved_config(model, new)
    model.optimizer = new
    return 0, len(variables)


def _give_legacy(optimizer: Any, learning_rate: Any) -> None:
    """Another schedule, or a float where a schedule was; that becomes a variable again."""
    optimizer.learning_rate = learning_rate
    if not callable(learning_rate):
        optimizer._hypers_created = False
        optimizer._create_hypers()


def _without_average(optimizer: Any, variables: List[Any]) -> List[Any]:
    """The variables that a TensorFlow Addons optimizer keeps no average of yet."""
    if not hasattr(optimizer, "assign_average_vars"):
        return []
    found = []
    for variable in variables:
        try:
            optimizer.get_slot(variable, "average")
        except KeyError:
            found.append(variable)
    return found


_LOSS_SCALE = ("_current_loss_scale", "_counter")


def _carry_loss_scale(old: Any, new: Any) -> None:
    """The dynamic scale of a LossScaleOptimizer and its counter, where there is one."""
    before, after = getattr(old, "_loss_scale", None), getattr(new, "_loss_scale", None)
    for name in _LOSS_SCALE:
        source, target = getattr(before, name, None), getattr(after, name, None)
        if source is not None and target is not None:
            target.assign(source)
