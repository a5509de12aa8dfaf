"""Make the context manager that forces BN of a model, for one block or for a training step."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from keras_bnguard.backends.patches.inference_mode import ForcedInference
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records.ids import LayerId, layer_id


def make_forced_inference(
    snapshot: ModelSnapshot, paths: Sequence[str], *, obey_graph: bool, stop_leaks: bool
) -> ForcedInference:
    """A context manager that forces some BN of a model.

    Args:
        snapshot: the model.
        paths: paths of the BN to force.
        obey_graph: also make every `training=False` of a graph call count.
        stop_leaks: also keep such a False from layers that are called later.
    """
    backend = snapshot.backend
    chosen = set(paths)
    handles = [handle for handle in snapshot.handles if handle.path in chosen]
    modules = [handle.module for handle in handles if handle.module is not None]
    layers: Dict[LayerId, Any] = {
        layer_id(handle.layer): handle.layer for handle in handles if handle.module is None
    }
    nodes = list(backend.step.rewritable_nodes(snapshot.model)) if obey_graph else []
    leaky: List[Any] = []
    if stop_leaks and _may_leak(snapshot):
        leaky = [snapshot.model, *(layer for _, layer in snapshot.layers)]
    return ForcedInference(backend, list(layers.values()), modules, nodes, leaky)


def _may_leak(snapshot: ModelSnapshot) -> bool:
    """Whether some layer's own `call` invokes several layers on a Keras that leaks there."""
    behaviour = snapshot.inventory.stack.behaviour
    backend = snapshot.backend
    if behaviour.false_leaks_in_graph and any(
        call.training is False for norm in snapshot.inventory.norms for call in norm.calls
    ):
        return True
    if not behaviour.false_leaks_in_call:
        return False
    return any(
        len(backend.graph.children(layer)) > 1 and not backend.graph.is_functional(layer)
        for layer in [snapshot.model, *(layer for _, layer in snapshot.layers)]
    )
