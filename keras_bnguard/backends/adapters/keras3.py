"""Keras 3: what is the same on TensorFlow, JAX and torch."""

from __future__ import annotations

import contextlib
import math
import sys
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Type

from keras_bnguard.backends.interface import ArrayOperations
from keras_bnguard.backends.optimizers.in_place import Successor
from keras_bnguard.backends.optimizers.lazy import step_counter
from keras_bnguard.backends.optimizers.renewal import (
    carry_state,
    inner_optimizer,
    strategy_scope,
    trained_variables,
    update_saved_config,
)
from keras_bnguard.backends.parts.flags import Flags
from keras_bnguard.backends.parts.graph import Graph
from keras_bnguard.backends.parts.norms import variable_handle
from keras_bnguard.backends.parts.optimizer import Optimizer
from keras_bnguard.backends.parts.step import Step
from keras_bnguard.backends.parts.variable_flags import VariableFlags
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.signatures import call_parameters, has_own_train_step
from keras_bnguard.backends.values.base import Values
from keras_bnguard.backends.values.probe_ops import KerasOps
from keras_bnguard.records import OptimizerFacts
from keras_bnguard.records.ids import LayerId, layer_id


class Keras3Graph(Graph):
    """Layers and nodes of Keras 3."""

    def children(self, layer: Any) -> List[Any]:
        return list(layer._layers)

    def own_variables(self, layer: Any) -> List[Any]:
        return list(layer._trainable_variables) + list(layer._non_trainable_variables)

    def nodes(self, layer: Any) -> List[Tuple[Any, Any]]:
        graph = getattr(layer, "_functional", None) or layer
        by_depth = getattr(graph, "_nodes_by_depth", None) or {}
        return [
            (node, node.operation)
            for depth in sorted(by_depth, reverse=True)
            for node in by_depth[depth]
            if not node.is_input
        ]

    def node_call(self, node: Any) -> Tuple[Any, Sequence[Any], Any]:
        return node.operation, node.arguments.args, node.arguments.kwargs

    def node_class(self) -> Optional[type]:
        module = sys.modules.get(f"{self.package}.src.ops.node")
        return getattr(module, "Node", None)

    def node_training(self, node: Any) -> Optional[bool]:
        """As in the base class; a default in the layer's own signature counts as not written.

        Up to 3.15 Keras stores the default at the node as if it had been written, and so lets
        it reach the layers called later.
        """
        written = super().node_training(node)
        if written is None or not self.behaviour.default_leaks:
            return written
        parameter = call_parameters(node.operation).get("training")
        return None if parameter is not None and parameter.default is written else written

    def hidden_handles(self, layer: Any, path: str) -> List[NormHandle]:
        found = super().hidden_handles(layer, path)
        return found or [
            variable_handle(layer, f"{path}/{name}" if name else path, pair)
            for name, pair in jax_state_pairs(layer).items()
        ]


class Keras3Flags(Flags):
    """Keras 3 reads flags when a step is traced; each backend adds what it does then."""

    variable_flags: Type[VariableFlags] = VariableFlags

    def __init__(self, graph: Graph, optimizer: Optimizer, values: Values) -> None:
        super().__init__(graph, optimizer, values)
        self._variables = self.variable_flags()

    def compiled(self, model: Any) -> Optional[Dict[LayerId, bool]]:
        """As in the base class; Keras keeps the flags since 3.15.

        Before that, a model that has not trained since `compile()` uses its flags as they are.
        For one that has, the optimizer shows them: a layer was trainable if the optimizer was
        built for one of its own variables.
        """
        if hasattr(model, "_compiled_trainable_state"):
            return super().compiled(model)
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            return None
        layers = self._graph.all_layers(model)
        known = trained_variables(inner_optimizer(optimizer))
        if known is None or not self._trained_since_compile(model):
            return {layer_id(layer): bool(layer.trainable) for layer in layers}
        ids = {id(variable) for variable in known}
        return {
            layer_id(layer): any(id(variable) in ids for variable in layer._trainable_variables)
            for layer in layers
            if self._variables.open(layer)
        }

    def _trained_since_compile(self, model: Any) -> bool:
        """`compile()` makes a new loss tracker, and every step counts in it.

        Its value cannot be read where a step is under way: inside a trace, and on JAX while the
        values are outside of the model.
        """
        tracker = getattr(model, "_loss_tracker", None)
        count = getattr(tracker, "count", None)
        if count is None:
            return False
        try:
            return float(self._values.to_numpy(count)) > 0
        except Exception:
            return True

    def set_own(self, layer: Any, flag: bool) -> None:
        """As in the base class; a variable that is frozen on its own, as LoRA freezes a kernel,
        stays frozen, where the layer's own setter would make it train."""
        self._variables.set(layer, flag)

    def remember_compiled(self, model: Any) -> None:
        if hasattr(model, "_compiled_trainable_state"):
            flags = {layer: layer.trainable for layer in model._flatten_layers()}
            object.__setattr__(model, "_compiled_trainable_state", flags)

    def trainable_count(self, layer: Any) -> int:
        return sum(math.prod(int(d) for d in v.shape) for v in self._variables.open(layer))


def _build_state(model: Any, new: Any, carry: bool) -> Tuple[int, int]:
    old = model.optimizer
    inner, new_inner = inner_optimizer(old), inner_optimizer(new)
    variables = list(model.trainable_variables)
    old_variables = trained_variables(inner) or []
    new.build(variables)
    carried = 0
    if carry:
        carried, _ = carry_state(inner, old_variables, new_inner, variables)
        step_counter(new_inner).assign(step_counter(inner))
        if new is not new_inner:
            step_counter(new).assign(step_counter(old))
            for name in ("dynamic_scale", "step_counter"):
                source, target = getattr(old, name, None), getattr(new, name, None)
                if source is not None and target is not None:
                    target.assign(source)
    return carried, len(variables) - carried


class Keras3Optimizer(Optimizer):
    """Optimizers of Keras 3."""

    build_state = staticmethod(_build_state)

    def renew(
        self, model: Any, carry: bool = True, schedule: Optional[Any] = None
    ) -> Tuple[int, int]:
        with strategy_scope(model):
            successor = Successor(model.optimizer, schedule)
            counts = _build_state(model, successor.optimizer, carry)
            successor.hand_over(reset=not carry)
        update_saved_config(model)
        return counts

    def facts(self, model: Any) -> Optional[OptimizerFacts]:
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            return None
        inner = inner_optimizer(optimizer)
        known = getattr(inner, "_trainable_variables", None)
        built = bool(getattr(inner, "built", False)) and known is not None
        unknown: Tuple[str, ...] = ()
        stale: Tuple[str, ...] = ()
        if built and known is not None and not has_own_train_step(model, self._package):
            ids = {id(v) for v in known}
            now = list(model.trainable_variables)
            unknown = tuple(v.path for v in now if id(v) not in ids)
            wanted = {id(v) for v in now}
            stale = tuple(v.path for v in known if id(v) not in wanted)
        return OptimizerFacts(
            class_name=type(inner).__name__,
            built=built,
            iterations=self.iterations(model),
            unknown=unknown,
            stale=stale,
        )


class Keras3Step(Step):
    """Keras 3 overrides graph arguments up to 3.15.1, and carries `training` in one object."""

    regularizes_frozen = False

    def regularization_losses(self, layer: Any) -> float:
        variables = [v for v in layer._trainable_variables if v.regularizer is not None]
        return sum(float(self._values.tensor_to_numpy(v.regularizer(v))) for v in variables)

    def update_methods(self) -> List[Tuple[type, str]]:
        owner = self._keras.optimizers.Optimizer
        return [(owner, "apply"), (owner, "stateless_apply")]

    def rewritable_nodes(self, model: Any) -> Iterator[Any]:
        if self.behaviour.graph_false_honoured:
            return
        for layer in self._graph.all_layers(model):
            for node, called in self._graph.nodes(layer):
                if self._graph.is_layer(called) and self._graph.node_training(node) is False:
                    yield node

    def call_context(self) -> Any:
        from keras.src.backend.common import global_state

        return global_state.get_global_attribute("current_call_ctx")

    @contextlib.contextmanager
    def opened_call_context(self, training: Any) -> Iterator[None]:
        from keras.src.backend.common import global_state
        from keras.src.layers.layer import CallContext

        context = CallContext(entry_layer=None)
        context.training = training
        global_state.set_global_attribute("current_call_ctx", context)
        try:
            yield
        finally:
            global_state.set_global_attribute("current_call_ctx", None)


class Keras3Values(Values):
    """Values of Keras 3; each backend adds how a variable is read."""

    def array_operations(self) -> ArrayOperations:
        return KerasOps(self.keras)

    def random_states(self) -> List[Tuple[Callable[[Any], Any], Any]]:
        """The generator of draws without a seed; Keras makes it at the first of them."""
        from keras.src.backend.common import global_state

        name = "global_seed_generator"
        generator = global_state.get_global_attribute(name)
        if generator is None:
            return [(lambda _: global_state.set_global_attribute(name, None), None)]

        def put_back(value: Any) -> None:
            global_state.set_global_attribute(name, generator)
            generator.state.assign(value)

        return [(put_back, self.to_numpy(generator.state))]


def jax_state_pairs(layer: Any) -> Dict[str, Dict[str, Any]]:
    """Return moving statistics in the `state` of a JaxLayer or FlaxLayer, by place in it.

    Flax keeps `{"batch_stats": {"BatchNorm_0": {"mean": ..., "var": ...}}}`. Haiku keeps
    `{"net/batch_norm/~/mean_ema": {"average": ...}}`, which holds no pair and is not found.
    """
    state = getattr(layer, "state", None)
    if not isinstance(state, dict):
        return {}
    found: Dict[str, Dict[str, Any]] = {}

    def walk(node: Any, names: Tuple[str, ...]) -> None:
        if not isinstance(node, dict):
            return
        variance = node.get("var", node.get("variance"))
        if "mean" in node and variance is not None:
            found["/".join(names)] = {"mean": node["mean"], "variance": variance}
        for key, value in node.items():
            walk(value, (*names, str(key)))

    walk(state, ())
    return found
