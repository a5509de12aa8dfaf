"""What surrounds every BN in the graphs that call it: convolutions, masks, time, call sites."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from keras_bnguard.backends.base import Backend
from keras_bnguard.model.layer_tree import LayerTree
from keras_bnguard.records import Convolution, GraphContext, LostMask, TimeSteps
from keras_bnguard.records.ids import LayerId, layer_id

_MAX_DEPTH = 20


class GraphContexts:
    """The graph context of every BN of a model.

    Graphs are followed node by node only where a layer could matter: a convolution with its
    channels first, a BN along another axis than the last, a layer that makes masks.

    Args:
        backend: the backend of the model.
        tree: the layers of the model.
        axes: the axis of every BN that is a Keras layer.
    """

    def __init__(
        self, backend: Backend, tree: LayerTree, axes: Mapping[LayerId, Optional[int]]
    ) -> None:
        self._convolutions: Dict[LayerId, Convolution] = {}
        self._lost_masks: Dict[LayerId, LostMask] = {}
        self._time_steps: Dict[LayerId, TimeSteps] = {}
        self._call_sites = _count_call_sites(backend, tree)
        layers = [layer for _, layer in tree.layers]
        convolutions = any(backend.graph.channels_first(layer) for layer in layers) or any(
            axis not in (None, -1) and _dims(layer) != axis + 1
            for layer in layers
            if (axis := axes.get(layer_id(layer))) is not None
        )
        masks = any(backend.graph.makes_mask(layer) for layer in layers)
        if convolutions or masks:
            for holder in [tree.model, *layers]:
                nodes = backend.graph.nodes(holder)
                if nodes and convolutions:
                    nearest = _NearestConvolution(backend, tree.paths)
                    _carry(backend, nodes, axes, nearest, self._convolutions)
                if nodes and masks:
                    _carry(backend, nodes, axes, _MaskMaker(backend, tree.paths), self._lost_masks)
        for layer in layers:
            if backend.graph.wraps_time(layer):
                _note_time_steps(backend, layer, tree.paths, axes, self._time_steps)

    def of(self, layer: Any, axis: Optional[int], *, positions: bool) -> GraphContext:
        """The graph context of one BN.

        Args:
            layer: the BN.
            axis: the axis it normalises along, None where it is not one.
            positions: also count the positions of the map that it sees.
        """
        key = layer_id(layer)
        return GraphContext(
            axis=axis,
            convolution=self._convolutions.get(key),
            lost_mask=self._lost_masks.get(key),
            time_steps=self._time_steps.get(key),
            call_sites=self._call_sites.get(key, 1),
            positions=_count_positions(layer) if positions else None,
        )


def _dims(layer: Any) -> Optional[int]:
    return getattr(getattr(layer, "input_spec", None), "ndim", None)


def _count_positions(layer: Any) -> Optional[int]:
    """Positions of the map a BN with four axes sees, None where there is none or it varies."""
    try:
        shape = list(layer.input.shape)
        axis = layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis
        channels = int(shape[int(axis)])
        size = int(np.prod([int(d) for d in shape[1:]]))
        return size // channels if len(shape) == 4 else None
    except Exception:  # called in no graph, or in several, or on varying sizes
        return None


def _count_call_sites(backend: Backend, tree: LayerTree) -> Dict[LayerId, int]:
    """How often one call of the model calls each layer, as far as graphs show."""
    times: Dict[LayerId, int] = {}
    direct: Dict[LayerId, List[Tuple[Any, int]]] = {}

    def called_by(holder: Any) -> List[Tuple[Any, int]]:
        key = layer_id(holder)
        if key not in direct:
            called = [c for _, c in backend.graph.nodes(holder)] or backend.graph.children(holder)
            counts: Dict[LayerId, Tuple[Any, int]] = {}
            for each in called:
                if layer_id(each) in tree.paths:
                    before = counts.get(layer_id(each), (each, 0))[1]
                    counts[layer_id(each)] = (each, before + 1)
            direct[key] = list(counts.values())
        return direct[key]

    def call(holder: Any, number: int, depth: int) -> None:
        for each, often in called_by(holder):
            times[layer_id(each)] = times.get(layer_id(each), 0) + number * often
            if depth < _MAX_DEPTH:
                call(each, number * often, depth + 1)

    call(tree.model, 1, 0)
    return times


# ------------------------------------------------------------------ along a graph
def _carry(
    backend: Backend,
    nodes: Sequence[Tuple[Any, Any]],
    norms: Mapping[LayerId, Any],
    step: Union[_NearestConvolution, _MaskMaker],
    found: Dict[LayerId, Any],
) -> None:
    """Carry what `step` returns for each node along a graph; note what arrives at each BN."""
    after: Dict[int, Any] = {}
    for node, layer in nodes:
        arrived = [after.get(id(each)) for each in backend.graph.node_inputs(node)]
        if layer_id(layer) in norms and any(arrived):
            at_norm = step.at_norm(arrived)
            if at_norm is not None:
                found.setdefault(layer_id(layer), at_norm)
        after[id(node)] = step.after(node, layer, arrived)


class _NearestConvolution:
    """The nearest convolution, through layers that leave every axis in its place."""

    def __init__(self, backend: Backend, paths: Mapping[LayerId, str]) -> None:
        self._backend, self._paths = backend, paths

    def after(self, node: Any, layer: Any, arrived: List[Any]) -> Optional[Convolution]:
        first = self._backend.graph.channels_first(layer)
        if first is None:
            return self.at_norm(arrived) if self._backend.graph.keeps_axes(layer) else None
        dims = len(self._backend.graph.tensors_of(node)[1][0].shape)
        return Convolution(self._paths.get(layer_id(layer), "?"), 1 if first else dims - 1, dims)

    def at_norm(self, arrived: List[Any]) -> Optional[Convolution]:
        return next((each for each in arrived if each is not None), None)


class _MaskMaker:
    """(path of the layer that made the mask, path of the one that dropped it or "")."""

    def __init__(self, backend: Backend, paths: Mapping[LayerId, str]) -> None:
        self._backend, self._paths = backend, paths

    def after(self, node: Any, layer: Any, arrived: List[Any]) -> Optional[Tuple[str, str]]:
        path = self._paths.get(layer_id(layer), "?")
        before = arrived[0] if arrived else None
        output = self._backend.graph.tensors_of(node)[1][0]
        if self._backend.graph.has_mask(output):
            return (before[0] if before else path), ""
        # With its time axis gone, a mask has done its work.
        if before is None or len(output.shape) < 3:
            return None
        return before[0], before[1] or path

    def at_norm(self, arrived: List[Any]) -> Optional[LostMask]:
        lost = arrived[0]
        return LostMask(*lost) if lost and lost[1] else None


# ------------------------------------------------------------------------- time
def _note_time_steps(
    backend: Backend,
    wrapper: Any,
    paths: Mapping[LayerId, str],
    norms: Mapping[LayerId, Any],
    found: Dict[LayerId, TimeSteps],
) -> None:
    """Note the time steps of a TimeDistributed layer for every BN inside it."""
    try:
        steps = wrapper.input.shape[1]
    except Exception:  # called in no graph, or in several
        steps = None
    graph = any(backend.graph.is_functional(layer) for layer in backend.graph.children(wrapper))
    path = paths.get(layer_id(wrapper), "?")
    record = TimeSteps(path, None if steps is None else int(steps), graph)
    for layer in backend.graph.all_layers(wrapper):
        if layer_id(layer) in norms:
            found[layer_id(layer)] = record
