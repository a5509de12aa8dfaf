"""Stage one: find every BN of a model, wherever it is, and what surrounds it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Collection, Dict, List, Mapping, Optional, Tuple

import numpy as np

from keras_bnguard.backends.base import Backend
from keras_bnguard.backends.patches import source_lines
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.model.graph_context import Found, find_graph_context
from keras_bnguard.model.layer_tree import Walk, graph_calls
from keras_bnguard.model.saved_by import writer_of
from keras_bnguard.model.weight_counts import count_weights
from keras_bnguard.records import (
    BUILTIN,
    GraphCall,
    GraphContext,
    Inventory,
    NormBehaviour,
    NormKind,
    NormLayer,
    SharedNorm,
    WeightCounts,
)

_TORCH = NormBehaviour(trainable_updates=True, frozen_updates=True, frozen_uses_batch=True)


@dataclass
class ModelSnapshot:
    """An inventory together with the live objects it describes; it never leaves a stage.

    layers: every layer below the model with its path, in walking order, each once.
    handles: one per BN, same order as `inventory.norms`.
    """

    backend: Backend
    model: Any
    inventory: Inventory
    handles: List[NormHandle]
    layers: List[Tuple[str, Any]]
    paths: Dict[int, str] = field(default_factory=dict)

    def replace_inventory(self, **changes: Any) -> None:
        """Put other values into the (frozen) inventory record."""
        self.inventory = replace(self.inventory, **changes)


def take_snapshot(
    model: Any,
    *,
    flags: Optional[Mapping[int, bool]] = None,
    compiled: Optional[Mapping[int, bool]] = None,
    forced_inference: Collection[str] = (),
    guarded: bool = False,
    look_for_others: bool = False,
) -> ModelSnapshot:
    """Walk a model and describe every BN in it.

    Nested, functional, sequential and subclassed models, wrappers and shared layers are
    walked; so are torch modules, and variables of layers that hide their BN.

    Args:
        model: a Keras model, built or not, compiled or not.
        flags: id(layer) -> `trainable` to believe instead of the layer's own (Keras 2 puts
            the user's flags aside during `fit`).
        compiled: id(layer) -> flag at `compile()`; by default what the Keras in hand keeps.
        forced_inference: paths of BN that a hold of this package forces into inference.
        guarded: the model's step obeys `training=False` of graph calls.
        look_for_others: also find other compiled models that share BN; walks all objects.

    Raises:
        UnsupportedModelError: `model` is no Keras model or layer.
    """
    backend = backend_for(model)
    flags = flags or {}
    if compiled is None:
        compiled = backend.flags.compiled(model)
    walk = Walk(backend, model, flags, compiled or {})
    walk.run()
    calls, training_defaults = graph_calls(backend, model, walk)
    handles = [handle for _, _, handle in walk.norms]
    axes = {id(h.layer): h.settings.get("axis") for h in handles if h.kind is NormKind.KERAS}
    graph_context = find_graph_context(backend, model, walk.layers, axes)
    defaults = _at_defaults(backend, handles)
    norms = tuple(
        _norm_record(backend, walk, item, calls, default, forced_inference, graph_context)
        for item, default in zip(walk.norms, defaults)
    )
    inventory = Inventory(
        model=str(getattr(model, "name", type(model).__name__)),
        stack=backend.stack,
        norms=norms,
        layers=tuple(walk.records),
        training_defaults=training_defaults,
        functional=backend.graph.is_functional(model),
        compiled=bool(getattr(model, "optimizer", None)) or bool(compiled),
        built=bool(getattr(model, "built", True)),
        compiled_flags_known=bool(compiled),
        step_built=backend.step.is_built(model),
        guarded=guarded,
        unreadable=tuple(walk.unreadable),
        replicas=backend.step.replicas(model),
        steps_per_execution=backend.step.steps_per_execution(model),
        saved_by=writer_of(model),
        weights=_weights(backend, model, walk),
    )
    snapshot = ModelSnapshot(backend, model, inventory, handles, walk.layers, walk.paths)
    # A frozen BN that has learnt nothing is a fault unless another model trains it.
    fresh = any(norm.built and norm.at_default and norm.frozen for norm in norms)
    if look_for_others or fresh:
        snapshot.replace_inventory(shared=find_shared(snapshot))
    return snapshot


def _weights(backend: Backend, model: Any, walk: Walk) -> Optional[WeightCounts]:
    try:
        return count_weights(backend, model, walk.flag, walk.compiled)
    except Exception:  # a layer of the user's whose weights cannot be listed
        return None


def _at_defaults(backend: Backend, handles: List[NormHandle]) -> List[Optional[bool]]:
    """Per BN: mean all 0 and variance all 1; None where there is nothing to read yet."""
    wanted, result = [], []
    for handle in handles:
        mean, variance, _, _ = handle.vectors()
        built = mean is not None and variance is not None
        result.append(built)
        if built:
            wanted.append((mean, variance))
    try:
        means = [m for m, _ in wanted]
        variances = [v for _, v in wanted]
        sizes = [_size(m) for m in means]
        flat_mean, flat_variance = backend.values.flat(means), backend.values.flat(variances)
    except Exception:
        return [None] * len(handles)
    ends = np.cumsum(sizes, dtype=int) if sizes else np.zeros(0, int)
    at_default = iter(
        bool(
            np.all(flat_mean[end - size : end] == 0)
            and np.all(flat_variance[end - size : end] == 1)
        )
        for size, end in zip(sizes, ends)
    )
    return [next(at_default) if built else None for built in result]


def _size(variable: Any) -> int:
    return int(np.prod([int(d) for d in variable.shape]))


def _norm_record(
    backend: Backend,
    walk: Walk,
    item: Tuple[Any, str, NormHandle],
    calls: Dict[int, List[GraphCall]],
    at_default: Optional[bool],
    forced_inference: Collection[str],
    graph_context: Found,
) -> NormLayer:
    layer, container, handle = item
    mean = handle.vectors()[0]
    flag = walk.flags.get(id(layer))
    trainable = handle.own_flag() if flag is None or handle.kind is NormKind.TORCH else flag
    behaviour: Optional[NormBehaviour] = BUILTIN
    if handle.kind is NormKind.TORCH:
        behaviour = _TORCH
    elif not handle.builtin:
        behaviour = backend.values.norm_behaviour(handle)
    return NormLayer(
        path=handle.path,
        class_name=handle.class_name,
        kind=handle.kind,
        container=container,
        position=walk.position.get(id(layer), 0),
        trainable=trainable,
        frozen_ancestors=walk.frozen_above.get(id(layer), ()),
        compiled_trainable=walk.compiled.get(id(layer)),
        momentum=handle.settings["momentum"],
        epsilon=handle.settings["epsilon"],
        channels=0 if mean is None else _size(mean),
        built=mean is not None,
        at_default=at_default,
        stats_dtype=None if mean is None else backend.values.dtype_of(mean),
        renorm=handle.settings["renorm"],
        synchronized=handle.settings["synchronized"],
        builtin=handle.builtin,
        behaviour=behaviour,
        calls=tuple(calls.get(id(layer), ())),
        forced_inference=handle.path in forced_inference,
        aliases=tuple(walk.aliases.get(id(layer), ())),
        host=type(layer).__name__ if handle.kind is not NormKind.KERAS else "",
        flag_source=_flag_source(backend, walk, layer),
        graph_context=GraphContext(
            axis=handle.settings.get("axis"),
            convolution=graph_context.convolutions.get(id(layer)),
            lost_mask=graph_context.lost_masks.get(id(layer)),
            time_steps=graph_context.time_steps.get(id(layer)),
            call_sites=graph_context.call_sites.get(id(layer), 1),
            positions=_positions(layer) if writer_of(walk.model) else None,
        ),
    )


def _flag_source(backend: Backend, walk: Walk, layer: Any) -> Optional[str]:
    """Where a BN's own flag was last set, else that of a frozen layer around it."""
    own = source_lines.flag_sources(backend, [id(layer)])
    if own:
        return own[id(layer)]
    above = set(walk.frozen_above.get(id(layer), ()))
    keys = [key for key, path in walk.paths.items() if path in above]
    return next(iter(source_lines.flag_sources(backend, keys).values()), None)


def _positions(layer: Any) -> Optional[int]:
    """Positions of the map a BN with four axes sees, None where there is none or it varies."""
    try:
        shape = list(layer.input.shape)
        axis = layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis
        channels = shape[int(axis)]
        return (
            int(np.prod([int(d) for d in shape[1:]])) // int(channels) if len(shape) == 4 else None
        )
    except Exception:
        return None


def find_shared(snapshot: ModelSnapshot) -> Tuple[SharedNorm, ...]:
    """BN of the model that other compiled models hold too, with their flags there.

    Walks every object of the process once: some tens of milliseconds.
    """
    backend, here = snapshot.backend, snapshot.inventory
    by_id = {id(h.layer): h.path for h in snapshot.handles}
    flag_here = {n.path: n.compiled_trainable for n in here.norms}
    found: List[SharedNorm] = []
    for other in backend.step.other_models(snapshot.model):
        flags = backend.flags.compiled(other)
        if flags is None:
            flags = {}
        contains = id(snapshot.model) in flags or any(
            layer is snapshot.model for layer in backend.graph.children(other)
        )
        for key, there in flags.items():
            path = by_id.get(key)
            if path is not None:
                mine = flag_here[path]
                found.append(
                    SharedNorm(
                        path=path,
                        other=str(getattr(other, "name", "?")),
                        here=bool(here.norm(path).trainable if mine is None else mine),
                        there=there,
                        other_contains_model=contains,
                    )
                )
    return tuple(found)
