"""Keras 2: tf.keras 2.12 to 2.15, and tf_keras on any TensorFlow."""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.base import Parts
from keras_bnguard.backends.interface import ArrayOperations
from keras_bnguard.backends.known_stacks import TENSORFLOW
from keras_bnguard.backends.optimizers.keras2 import build_state, renew_new
from keras_bnguard.backends.optimizers.lazy import step_counter
from keras_bnguard.backends.optimizers.learning_rates import move_factors
from keras_bnguard.backends.optimizers.legacy import (
    is_legacy,
    knows_exactly_legacy,
    legacy_stand_in,
    legacy_variables,
    renew_legacy,
)
from keras_bnguard.backends.optimizers.renewal import (
    LOSS_SCALE,
    inner_optimizer,
    learning_rate_function,
    strategy_scope,
    update_saved_config,
)
from keras_bnguard.backends.parts.flags import Flags
from keras_bnguard.backends.parts.graph import Graph
from keras_bnguard.backends.parts.optimizer import Optimizer
from keras_bnguard.backends.parts.step import Step
from keras_bnguard.backends.signatures import has_own_train_step
from keras_bnguard.backends.values.base import Values
from keras_bnguard.backends.values.probe_ops import TensorFlowOps
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
from keras_bnguard.records import ChangeOutcome, FlagTiming, OptimizerFacts, ReplicaStatistics
from keras_bnguard.records.ids import LayerId, layer_id


class Keras2Graph(Graph):
    """Layers and nodes of Keras 2."""

    def children(self, layer: Any) -> List[Any]:
        return list(layer._flatten_layers(recursive=False, include_self=False))

    def own_variables(self, layer: Any) -> List[Any]:
        return list(layer._trainable_weights) + list(layer._non_trainable_weights)

    def nodes(self, layer: Any) -> List[Tuple[Any, Any]]:
        by_depth = getattr(layer, "_nodes_by_depth", None) or {}
        return [
            (node, node.layer)
            for depth in sorted(by_depth, reverse=True)
            for node in by_depth[depth]
            if not node.is_input
        ]

    def node_call(self, node: Any) -> Tuple[Any, Sequence[Any], Any]:
        return node.layer, node.call_args or (), node.call_kwargs or {}

    def node_class(self) -> Optional[type]:
        places = (f"{self.package}.src.engine.node", f"{self.package}.engine.node")
        module = next((sys.modules[name] for name in places if name in sys.modules), None)
        return getattr(module, "Node", None)

    def norm_classes(self) -> Tuple[type, ...]:
        base = self.keras.layers.BatchNormalization
        for cls in base.__mro__:
            if cls.__name__ == "BatchNormalizationBase":
                return (cls,)
        return (base,)


class Keras2Flags(Flags):
    """For the length of `fit` Keras 2 restores the flags of `compile()`, and keeps those that
    the user set since then aside until `fit` returns."""

    timing = FlagTiming.COMPILE

    def compiled(self, model: Any) -> Optional[Dict[LayerId, bool]]:
        # A graph keeps such a state from its making on, before any `compile()`.
        return super().compiled(model) if getattr(model, "optimizer", None) else None

    def pending(self, model: Any) -> Dict[LayerId, bool]:
        """As in the base class; read from the object of Keras that will restore the flags.

        Only the compile-time state of the model refers to that object, so it is looked for
        among all objects.
        """
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
                    return {layer_id(layer): bool(flag) for layer, flag in (current or {}).items()}
        return {}

    def change_outcome(self, model: Any, unknown: bool) -> ChangeOutcome:
        return ChangeOutcome.IGNORED

    def compile_number(self, model: Any) -> Optional[int]:
        """`compile()` makes this variable."""
        return tf_variable_number(getattr(model, "_steps_per_execution", None))

    def set_own(self, layer: Any, flag: bool) -> None:
        layer._trainable = bool(flag)

    def remember_compiled(self, model: Any) -> None:
        # Past Keras's own __setattr__, which would track the layers in it.
        object.__setattr__(model, "_compiled_trainable_state", model._get_trainable_state())

    def trainable_count(self, layer: Any) -> int:
        return int(sum(np.prod(v.shape) for v in layer._trainable_weights))


class Keras2Optimizer(Optimizer):
    """The optimizers of Keras 2: those of 2.11 on, and `keras.optimizers.legacy`."""

    build_state = staticmethod(build_state)

    def renew(
        self, model: Any, carry: bool = True, schedule: Optional[Any] = None
    ) -> Tuple[int, int]:
        with strategy_scope(model):
            if is_legacy(model.optimizer):
                trained = list(model.trainable_variables)
                counts = renew_legacy(model.optimizer, trained, carry, schedule)
            else:
                counts = renew_new(model, carry, schedule)
        update_saved_config(model)
        return counts

    def put_stand_in(self, model: Any) -> None:
        old = model.optimizer
        if not is_legacy(old):
            super().put_stand_in(model)
            return
        with strategy_scope(model):
            new = legacy_stand_in(old, list(model.trainable_variables))
            move_factors(old, new)
            model.optimizer = new

    def knows_exactly(self, model: Any) -> bool:
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None or not is_legacy(optimizer):
            return super().knows_exactly(model)
        known = knows_exactly_legacy(optimizer, list(model.trainable_variables))
        return known and self.iterations(model) > 0

    def check_renewable(self, model: Any, learning_rates: Sequence[Any], reset: bool) -> None:
        if reset or not is_legacy(model.optimizer):
            super().check_renewable(model, learning_rates, reset)

    def _scheduled_learning_rate(self, optimizer: Any) -> Any:
        # Of the new optimizers `learning_rate` is that of the step before, of the legacy ones
        # the schedule itself.
        step = step_counter(optimizer)
        return learning_rate_function(optimizer)(0 if step is None else step)  # type: ignore[misc]

    def _variables(self, model: Any) -> List[Any]:
        scale = getattr(model.optimizer, "_loss_scale", None)
        found = [getattr(scale, name, None) for name in LOSS_SCALE]
        if is_legacy(model.optimizer):
            kept = legacy_variables(model.optimizer, list(model.trainable_variables))
        else:
            kept = super()._variables(model)
        return kept + [v for v in found if v is not None]

    def facts(self, model: Any) -> Optional[OptimizerFacts]:
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            return None
        inner = inner_optimizer(optimizer)
        known = getattr(inner, "_index_dict", None) or {}
        built = bool(known)
        unknown: Tuple[str, ...] = ()
        if built and not has_own_train_step(model, self._package):
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


class Keras2Step(Step):
    """Training steps of Keras 2, which honours graph arguments."""

    replica_statistics = ReplicaStatistics.AVERAGED

    def regularization_losses(self, layer: Any) -> float:
        return sum(float(term()) for term in layer._callable_losses)

    def outside_trace(self) -> Any:
        return tf_outside_trace()

    def in_graph_mode(self) -> bool:
        return tf_in_graph_mode()

    def graph_mode_models(self) -> List[type]:
        places = (f"{self._graph.package}.src.engine", f"{self._graph.package}.engine")
        found = (sys.modules.get(f"{place}.training_v1") for place in places)
        return [module.Model for module in found if module is not None]

    def outside_autograph(self, function: Callable[..., Any]) -> Callable[..., Any]:
        run: Callable[..., Any] = sys.modules[TENSORFLOW].autograph.experimental.do_not_convert(
            function
        )
        return run

    def update_methods(self) -> List[Tuple[type, str]]:
        optimizers = self._keras.optimizers
        owners = [optimizers.Optimizer]
        legacy = getattr(optimizers, "legacy", None)
        if legacy is not None:
            owners.append(legacy.Optimizer)
        return [(owner, "apply_gradients") for owner in dict.fromkeys(owners)]

    def steps_per_execution(self, model: Any) -> int:
        kept = getattr(model, "_steps_per_execution", None)
        if kept is None:
            return 1
        with sys.modules[TENSORFLOW].init_scope():  # A guarded step asks while it is traced.
            return int(kept.numpy())


class Keras2Values(Values):
    """TensorFlow variables."""

    def to_numpy(self, variable: Any) -> np.ndarray:
        return tf_to_numpy(variable)

    def reader(self, variables: Sequence[Any]) -> Callable[[], np.ndarray]:
        return tf_reader(variables)

    def copies(self, variable: Any) -> List[Any]:
        return tf_copies(variable)

    def assign(self, variable: Any, value: np.ndarray) -> None:
        tf_assign(variable, value)

    def array_operations(self) -> ArrayOperations:
        return TensorFlowOps()

    def compiled_probe(
        self, model: Any, traced: Callable[..., Any], training: bool = False
    ) -> Callable[[Any], Any]:
        return tf_compiled_probe(model, traced, training)

    def random_states(self) -> List[Tuple[Callable[[Any], Any], Any]]:
        """The generator of seeds for operations; Keras makes it when a seed is set."""
        places = (f"{self.package}.src.backend", f"{self.package}.backend")
        module = next((sys.modules[name] for name in places if name in sys.modules), None)
        generator = getattr(getattr(module, "_SEED_GENERATOR", None), "generator", None)
        return [] if generator is None else [(generator.setstate, generator.getstate())]

    def load_saved_model(self, folder: str, description: Any) -> Any:
        model = self.keras.models.model_from_json(json.dumps(description))
        # The values are a checkpoint of their own; reading one runs nothing.
        values = model.load_weights(os.path.join(folder, "variables", "variables"))
        values.assert_existing_objects_matched().expect_partial()
        return model


PARTS = Parts(Keras2Graph, Keras2Flags, Keras2Optimizer, Keras2Step, Keras2Values)
