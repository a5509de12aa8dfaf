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
        leaky = _all_layers(snapshot)
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
    """Whether a `training=False` written inside the model may reach layers called later."""
    if graph_leaks(snapshot):
        return True
    if not snapshot.inventory.stack.behaviour.false_leaks_in_call:
        return False
    graph = snapshot.backend.graph
    return any(
        len(graph.children(layer)) > 1 and not graph.is_functional(layer)
        for layer in _all_layers(snapshot)
    )


def graph_leaks(snapshot: ModelSnapshot) -> bool:
    """Whether a graph of the model has a `training=False` written at a call, and Keras leaks it."""
    graph = snapshot.backend.graph
    return snapshot.inventory.stack.behaviour.false_leaks_in_graph and any(
        graph.is_layer(called) and graph.node_training(node) is False
        for layer in _all_layers(snapshot)
        for node, called in graph.nodes(layer)
    )


def _all_layers(snapshot: ModelSnapshot) -> List[Any]:
    return [snapshot.model, *(layer for _, layer in snapshot.layers)]
