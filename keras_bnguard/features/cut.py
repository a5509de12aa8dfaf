"""Where a frozen trunk ends in the graph of a model, and the two models on either side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Tuple

from keras_bnguard.backends.base import Backend
from keras_bnguard.backends.patches.part_of_model import AddedNodes, operations, part

Stops = Callable[[Any, Any], bool]
"""Whether the trunk has to end before a (node, layer that it calls)."""


@dataclass
class Cut:
    """A graph cut in two: what is computed once, and the rest.

    Attributes:
        model: the functional model.
        tensors: symbolic tensors of its graph between the two, in the order of their making.
        inner: a node that calls a model which is cut itself, with that cut; None where no model
            inside is cut.
        layers: layers and operations of the first part.
        rest: the calls of the rest, as (node, layer or operation), those of cut models inside too.
    """

    model: Any
    tensors: List[Any] = field(default_factory=list)
    inner: Optional[Tuple[Any, Cut]] = None
    layers: List[Any] = field(default_factory=list)
    rest: List[Tuple[Any, Any]] = field(default_factory=list)

    def weighted(self, backend: Backend) -> Dict[int, Any]:
        """The layers with weights of the first part, by id."""
        graph = backend.graph
        return {
            id(each): each
            for layer in self.layers
            if graph.is_layer(layer)
            for each in graph.all_layers(layer)
            if graph.owns_weights(each)
        }


def cut_graph(backend: Backend, model: Any, stops: Stops) -> Cut:
    """Cut a graph as late as possible.

    Args:
        backend: of the model.
        model: a functional or sequential model.
        stops: whether the first part has to end before a layer, whose inside counts. A model is
            cut inside unless `training=` was written where it is called.
    """
    graph = backend.graph
    cut, known, used = Cut(model), {id(tensor) for tensor in model.inputs}, []
    tensors = list(model.inputs)
    for node, called in graph.nodes(model):
        entering, leaving = graph.tensors_of(node)
        ready = all(id(tensor) in known for tensor in entering)
        if ready and not stops(node, called):
            known.update(id(tensor) for tensor in leaving)
            tensors += leaving
            cut.layers.append(called)
            continue
        if ready and cut.inner is None and _can_be_cut(backend, node, called):
            inside = cut_graph(backend, called, stops)
            if inside.weighted(backend):
                cut.inner = node, inside
                cut.layers += inside.layers
                cut.rest += inside.rest
                continue
        cut.rest.append((node, called))
        used += entering
    needed = {id(tensor) for tensor in [*used, *model.outputs]}
    cut.tensors = [tensor for tensor in tensors if id(tensor) in needed]
    return cut


def _can_be_cut(backend: Backend, node: Any, called: Any) -> bool:
    graph = backend.graph
    model = graph.is_layer(called) and graph.is_model(called)
    return bool(model and graph.nodes(called)) and graph.node_training(node) is None


@dataclass(frozen=True)
class Halves:
    """The two sides of a cut.

    Attributes:
        trunk: a model from the inputs to the features: one tensor, or a list of them.
        head: runs the rest on features, with `training` as its second argument.
    """

    trunk: Any
    head: Callable[[Any, Any], Any]


def halves(backend: Backend, cut: Cut) -> Halves:
    """Make the models on both sides; the graph of the user is afterwards as it was."""
    with AddedNodes(list(operations(backend.graph, cut.model))):
        tensors = _features(backend, cut)
        inputs = list(cut.model.inputs)
        trunk = part(
            backend.keras, inputs, tensors[0] if len(tensors) == 1 else tensors, "cached_trunk"
        )
        run = _rest(backend, cut)

    def head(features: Any, training: Any) -> Any:
        return run(list(features) if isinstance(features, (list, tuple)) else [features], training)

    return Halves(trunk, head)


def _features(backend: Backend, cut: Cut) -> List[Any]:
    """Symbolic features: those of the cut inside first."""
    if cut.inner is None:
        return cut.tensors
    node, inside = cut.inner
    features = _features(backend, inside)
    below = part(
        backend.keras,
        list(inside.model.inputs),
        features[0] if len(features) == 1 else features,
        "cached_trunk_inside",
    )
    entering = backend.graph.tensors_of(node)[0]
    made = below(entering[0] if len(entering) == 1 else entering)
    return [*(made if isinstance(made, (list, tuple)) else [made]), *cut.tensors]


def _rest(backend: Backend, cut: Cut) -> Callable[[List[Any], Any], Any]:
    """What runs the rest of a graph on a list of features."""
    model = cut.model
    outputs = getattr(model, "output", None)
    outputs = model.outputs if outputs is None else outputs
    if cut.inner is None:
        own = part(backend.keras, cut.tensors, outputs, "cached_head")
        return lambda features, training: own(_one_or_list(features), training=training)
    node, inside = cut.inner
    run_inside, count = _rest(backend, inside), _count(inside)
    above = part(
        backend.keras,
        [*backend.graph.tensors_of(node)[1], *cut.tensors],
        outputs,
        "cached_head",
    )

    def run(features: List[Any], training: Any) -> Any:
        made = run_inside(features[:count], training)
        between = [*(made if isinstance(made, (list, tuple)) else [made]), *features[count:]]
        return above(_one_or_list(between), training=training)

    return run


def _count(cut: Cut) -> int:
    return len(cut.tensors) + (0 if cut.inner is None else _count(cut.inner[1]))


def _one_or_list(features: List[Any]) -> Any:
    return features[0] if len(features) == 1 else features
