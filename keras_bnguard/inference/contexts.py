"""Make the context manager that forces BN of a model, for one block or for a training step."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

from keras_bnguard.backends.patches.inference_mode import CallObserver, ForcedInference
from keras_bnguard.backends.signatures import package_of
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records.ids import LayerId, layer_id


def make_forced_inference(
    snapshot: ModelSnapshot,
    paths: Sequence[str],
    *,
    obey_graph: bool,
    stop_leaks: bool,
    observer: Optional[CallObserver] = None,
) -> ForcedInference:
    """A context manager that forces some BN of a model.

    Args:
        snapshot: the model.
        paths: paths of the BN to force.
        obey_graph: also make every `training=False` of a graph call count.
        stop_leaks: also keep such a False from layers that are called later.
        observer: decides how forced calls are made, and sees the first of each. Defaults to
            None: `training=False` is passed, unseen.
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
    outer = [] if observer is None else _layers_around(snapshot, layers)
    return ForcedInference(backend, list(layers.values()), modules, nodes, leaky, outer, observer)


MAX_INSIDE = 8
"""A layer of the user's with more BN than this is taken to compose them, not to fold them."""


def _layers_around(snapshot: ModelSnapshot, forced: Mapping[LayerId, Any]) -> List[Any]:
    """Layers of the user's with code of their own right around BN that are all forced."""
    graph = snapshot.backend.graph
    found = []
    for _, layer in snapshot.layers:
        if layer_id(layer) in forced or package_of(type(layer)) == graph.package:
            continue
        if not any(layer_id(child) in forced for child in graph.children(layer)):
            continue
        inside = [each for each in graph.all_layers(layer) if graph.is_norm(each)]
        if len(inside) <= MAX_INSIDE and all(layer_id(each) in forced for each in inside):
            found.append(layer)
    return found


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
