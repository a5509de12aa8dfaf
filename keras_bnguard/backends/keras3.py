"""Keras 3, what is the same on TensorFlow, JAX and torch."""

from __future__ import annotations

import contextlib
import math
import sys
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from keras_bnguard.backends.base import Backend, inner_optimizer, named_statistics
from keras_bnguard.backends.learning_rates import move_factors
from keras_bnguard.backends.optimizers import (
    carry_slots,
    fresh_optimizer,
    strategy_scope,
    tell_saved_config,
    trained_variables,
)
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.values.probe import ProbeMath
from keras_bnguard.backends.values.probe_ops import KerasOps
from keras_bnguard.records import OptimizerFacts


class Keras3Backend(Backend):
    """Keras 3 overrides graph arguments up to 3.15.1 and reads flags when a step is traced."""

    regularizes_frozen = False

    @property
    def stack_name(self) -> str:
        return {"tensorflow": "k3-tf", "jax": "k3-jax", "torch": "k3-torch"}[self.backend]

    # --------------------------------------------------------------- structure
    def children(self, layer: Any) -> List[Any]:
        return list(layer._layers)

    def node_class(self) -> Optional[type]:
        module = sys.modules.get(f"{self.package}.src.ops.node")
        return getattr(module, "Node", None)

    def graph_nodes(self, layer: Any) -> List[Tuple[Any, Any]]:
        graph = getattr(layer, "_functional", None) or layer
        by_depth = getattr(graph, "_nodes_by_depth", None) or {}
        return [
            (node, node.operation)
            for depth in sorted(by_depth, reverse=True)
            for node in by_depth[depth]
            if not node.is_input
        ]

    def _node_arguments(self, node: Any) -> Tuple[Sequence[Any], Dict[str, Any]]:
        return node.arguments.args, node.arguments.kwargs

    def _node_layer(self, node: Any) -> Any:
        return node.operation

    def node_training(self, node: Any) -> Optional[bool]:
        """As the base class; a default in the layer's own signature counts as not written,
        for Keras 3 notes it at the node as if it were."""
        written = super().node_training(node)
        if written is None:
            return None
        parameter = self._call_parameters(node.operation).get("training")
        return None if parameter is not None and parameter.default is written else written

    def owns_weights(self, layer: Any) -> bool:
        return bool(layer._trainable_variables or layer._non_trainable_variables)

    def own_variables(self, layer: Any) -> List[Any]:
        return list(layer._trainable_variables) + list(layer._non_trainable_variables)

    def rewritable_nodes(self, model: Any) -> Iterator[Any]:
        if self.stack().behaviour.graph_false_honoured:
            return
        seen = set()
        pending = [model]
        while pending:
            layer = pending.pop()
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            for node, called in self.graph_nodes(layer):
                if self.is_layer(called) and self.node_training(node) is False:
                    yield node
            pending.extend(self.children(layer))

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

    # -------------------------------------------------------------- BN handles
    def hidden_handles(self, layer: Any, path: str) -> List[NormHandle]:
        found = super().hidden_handles(layer, path)
        return found or [
            self._variable_handle(layer, f"{path}/{name}" if name else path, pair)
            for name, pair in jax_state_pairs(layer).items()
        ]

    # ------------------------------------------------------------------ probes
    def probe_math(self) -> ProbeMath:
        return KerasOps(self.keras)

    # ------------------------------------------------------------------- flags
    def compiled_flags(self, model: Any) -> Optional[Dict[int, bool]]:
        """Keras 3 keeps them since 3.15. Before that, a model that has not trained since
        `compile()` takes its flags as they are, and for one that has the optimizer tells: a
        layer trained if the optimizer was built for one of its own variables."""
        if hasattr(model, "_compiled_trainable_state"):
            return super().compiled_flags(model)
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            return None
        layers = self.all_layers(model)
        known = trained_variables(inner_optimizer(optimizer))
        if known is None or not self._trained_since_compile(model):
            return {id(layer): bool(layer.trainable) for layer in layers}
        ids = {id(variable) for variable in known}
        return {
            id(layer): any(id(variable) in ids for variable in layer._trainable_variables)
            for layer in layers
            if layer._trainable_variables
        }

    def _trained_since_compile(self, model: Any) -> bool:
        """`compile()` makes a new loss tracker, and every step counts in it."""
        tracker = getattr(model, "_loss_tracker", None)
        count = getattr(tracker, "count", None)
        return count is not None and float(self.to_numpy(count)) > 0

    def set_own_flag(self, layer: Any, flag: bool) -> None:
        layer._trainable = bool(flag)
        for variable in layer._trainable_variables:
            variable.trainable = bool(flag)

    def remember_compiled_flags(self, model: Any) -> None:
        if hasattr(model, "_compiled_trainable_state"):
            flags = {layer: layer.trainable for layer in model._flatten_layers()}
            object.__setattr__(model, "_compiled_trainable_state", flags)

    def random_states(self) -> List[Tuple[Callable[[Any], Any], Any]]:
        """That of draws without a seed; made at the first of them."""
        from keras.src.backend.common import global_state

        name = "global_seed_generator"
        generator = global_state.get_global_attribute(name)
        if generator is None:
            return [(lambda _: global_state.set_global_attribute(name, None), None)]

        def put_back(value: Any) -> None:
            global_state.set_global_attribute(name, generator)
            generator.state.assign(value)

        return [(put_back, self.to_numpy(generator.state))]

    # --------------------------------------------------------------- optimizer
    def regularization_losses(self, layer: Any) -> float:
        variables = [v for v in layer._trainable_variables if v.regularizer is not None]
        return sum(float(self.tensor_to_numpy(v.regularizer(v))) for v in variables)

    def renew_optimizer(
        self, model: Any, carry: bool = True, schedule: Optional[Any] = None
    ) -> Tuple[int, int]:
        with strategy_scope(model):
            return self._renew_optimizer(model, carry, schedule)

    def _renew_optimizer(self, model: Any, carry: bool, schedule: Any) -> Tuple[int, int]:
        old = model.optimizer
        inner = inner_optimizer(old)
        variables = list(model.trainable_variables)
        old_variables = trained_variables(inner) or []
        new = fresh_optimizer(old, schedule)
        new.build(variables)
        new_inner = inner_optimizer(new)
        carried = 0
        if carry:
            carried, _ = carry_slots(inner, old_variables, new_inner, variables)
            steps_taken(new_inner).assign(steps_taken(inner))
            if new is not new_inner:
                steps_taken(new).assign(steps_taken(old))
                for name in ("dynamic_scale", "step_counter"):
                    source, target = getattr(old, name, None), getattr(new, name, None)
                    if source is not None and target is not None:
                        target.assign(source)
        move_factors(old, new)
        tell_saved_config(model, new)
        model.optimizer = new
        return carried, len(variables) - carried

    def iterations(self, model: Any) -> int:
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            return 0
        try:
            return int(self.to_numpy(steps_taken(inner_optimizer(optimizer))))
        except Exception:  # JAX: inside an epoch the count lives outside the model.
            return 0

    def trainable_count(self, layer: Any) -> int:
        return sum(math.prod(int(d) for d in v.shape) for v in layer._trainable_variables)

    def optimizer_facts(self, model: Any) -> Optional[OptimizerFacts]:
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            return None
        inner = getattr(optimizer, "inner_optimizer", None) or optimizer
        known = getattr(inner, "_trainable_variables", None)
        built = bool(getattr(inner, "built", False)) and known is not None
        unknown: Tuple[str, ...] = ()
        stale: Tuple[str, ...] = ()
        if built and known is not None and not self.has_own_step(model):
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


def steps_taken(optimizer: Any) -> Any:
    """The variable that counts every step. With `gradient_accumulation_steps`, `iterations`
    is another thing: a tensor, the number of times the weights were updated."""
    kept = getattr(optimizer, "_iterations", None)
    return optimizer.iterations if kept is None else kept


def jax_state_pairs(layer: Any) -> Dict[str, Dict[str, Any]]:
    """Moving statistics in the `state` of a JaxLayer or FlaxLayer, by their place in it.

    Flax keeps `{"batch_stats": {"BatchNorm_0": {"mean": ..., "var": ...}}}`; Haiku keeps
    `{"net/batch_norm/~/mean_ema": {"average": ...}}`, which holds no pair and is not seen.
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


__all__ = ["Keras3Backend", "jax_state_pairs", "named_statistics"]
