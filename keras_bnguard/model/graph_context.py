"""What lies around every BN in the graphs that call it: convolutions, masks, time, call sites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from keras_bnguard.backends.base import Backend
from keras_bnguard.records import Convolution, LostMask, TimeSteps


@dataclass
class Found:
    """By id(layer): what was found around it. A layer that is missing has nothing there."""

    convolutions: Dict[int, Convolution]
    lost_masks: Dict[int, LostMask]
    time_steps: Dict[int, TimeSteps]
    call_sites: Dict[int, int]


def find_graph_context(
    backend: Backend, model: Any, layers: Sequence[Tuple[str, Any]], norms: Mapping[int, Any]
) -> Found:
    """Look around every BN of a model.

    Graphs are followed node by node only where a layer could matter: a convolution with its
    channels first, a BN along another axis than the last, a layer that makes masks.

    Args:
        layers: every layer below the model with its path. norms: id(layer) -> axis of each BN.
    """
    path = {id(layer): name for name, layer in layers}
    path[id(model)] = ""
    found = Found({}, {}, {}, _call_sites(backend, model, path))
    convolutions = any(backend.graph.channels_first(layer) for _, layer in layers) or any(
        axis not in (None, -1) and _ndim(layer) != axis + 1
        for _, layer in layers
        if (axis := norms.get(id(layer))) is not None
    )
    masks = any(backend.graph.makes_mask(layer) for _, layer in layers)
    wrappers = [layer for _, layer in layers if backend.graph.wraps_time(layer)]
    if not (convolutions or masks or wrappers):
        return found
    for _, holder in [("", model), *layers]:
        nodes = backend.graph.nodes(holder)
        if nodes and convolutions:
            _follow(backend, nodes, norms, found.convolutions, _Convolutions(backend, path))
        if nodes and masks:
            _follow(backend, nodes, norms, found.lost_masks, _Masks(backend, path))
    for wrapper in wrappers:
        _time_steps(backend, wrapper, path, norms, found.time_steps)
    return found


def _ndim(layer: Any) -> Optional[int]:
    return getattr(getattr(layer, "input_spec", None), "ndim", None)


def _call_sites(backend: Backend, model: Any, path: Mapping[int, str]) -> Dict[int, int]:
    """How often one call of the model calls each layer, as far as graphs say."""
    times: Dict[int, int] = {}
    direct: Dict[int, List[Tuple[Any, int]]] = {}

    def callees(holder: Any) -> List[Tuple[Any, int]]:
        if id(holder) not in direct:
            called = [c for _, c in backend.graph.nodes(holder)] or backend.graph.children(holder)
            counts: Dict[int, List[Any]] = {}
            for each in called:
                if id(each) in path:
                    counts.setdefault(id(each), [each, 0])[1] += 1
            direct[id(holder)] = [(each, number) for each, number in counts.values()]
        return direct[id(holder)]

    def call(holder: Any, number: int, depth: int) -> None:
        for each, often in callees(holder):
            times[id(each)] = times.get(id(each), 0) + number * often
            if depth < 20:
                call(each, number * often, depth + 1)

    call(model, 1, 0)
    return times


# ------------------------------------------------------------------ along a graph
def _follow(
    backend: Backend,
    nodes: Sequence[Tuple[Any, Any]],
    norms: Mapping[int, Any],
    found: Dict[int, Any],
    step: Union[_Convolutions, _Masks],
) -> None:
    """Carry what `step` makes of each node along a graph; note what arrives at each BN."""
    after: Dict[int, Any] = {}
    for node, layer in nodes:
        arrived = [after.get(id(each)) for each in backend.graph.node_inputs(node)]
        if id(layer) in norms and any(arrived):
            at_norm = step.at_norm(arrived)
            if at_norm is not None:
                found.setdefault(id(layer), at_norm)
        after[id(node)] = step(node, layer, arrived)


class _Convolutions:
    """The nearest convolution, through layers that leave every axis in its place."""

    def __init__(self, backend: Backend, path: Mapping[int, str]) -> None:
        self.backend, self.path = backend, path

    def __call__(self, node: Any, layer: Any, arrived: List[Any]) -> Optional[Convolution]:
        first = self.backend.graph.channels_first(layer)
        if first is None:
            kept = self.backend.graph.keeps_axes(layer)
            return next((each for each in arrived if each is not None), None) if kept else None
        dims = len(self.backend.graph.tensors_of(node)[1][0].shape)
        return Convolution(self.path.get(id(layer), "?"), 1 if first else dims - 1, dims)

    def at_norm(self, arrived: List[Any]) -> Optional[Convolution]:
        return next((each for each in arrived if each is not None), None)


class _Masks:
    """(who makes the mask, who lost it): nobody lost it while it is still there."""

    def __init__(self, backend: Backend, path: Mapping[int, str]) -> None:
        self.backend, self.path = backend, path

    def __call__(self, node: Any, layer: Any, arrived: List[Any]) -> Optional[Tuple[str, str]]:
        name = self.path.get(id(layer), "?")
        before = arrived[0] if arrived else None
        output = self.backend.graph.tensors_of(node)[1][0]
        if self.backend.graph.has_mask(output):
            return (before[0] if before else name), ""
        # With its time axis gone, a mask has done its work.
        if before is None or len(output.shape) < 3:
            return None
        return before[0], before[1] or name

    def at_norm(self, arrived: List[Any]) -> Optional[LostMask]:
        lost = arrived[0]
        return LostMask(*lost) if lost and lost[1] else None


# ------------------------------------------------------------------------- time
def _time_steps(
    backend: Backend,
    wrapper: Any,
    path: Mapping[int, str],
    norms: Mapping[int, Any],
    found: Dict[int, TimeSteps],
) -> None:
    steps = None
    try:
        steps = wrapper.input.shape[1]
    except Exception:  # called in no graph, or in several
        steps = None
    inner = backend.graph.children(wrapper)
    graph = any(backend.graph.is_functional(layer) for layer in inner)
    record = TimeSteps(path.get(id(wrapper), "?"), None if steps is None else int(steps), graph)
    for layer in backend.graph.all_layers(wrapper):
        if id(layer) in norms:
            found[id(layer)] = record
