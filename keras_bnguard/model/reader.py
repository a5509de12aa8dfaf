"""Reads a model: what a `ModelSnapshot` holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.base import Backend
from keras_bnguard.backends.layer_behaviour import loops_over_time
from keras_bnguard.backends.patches import source_lines
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.model.call_without_training import call_without_training
from keras_bnguard.model.graph_calls import GraphCalls
from keras_bnguard.model.graph_context import GraphContexts
from keras_bnguard.model.layer_tree import LayerTree
from keras_bnguard.model.saved_by import writer_of
from keras_bnguard.model.user_code import Access, read_user_code
from keras_bnguard.model.weight_counts import count_weights
from keras_bnguard.records import (
    BUILTIN,
    Inventory,
    LayerFlag,
    NormBehaviour,
    NormKind,
    NormLayer,
    NormState,
    WeightCounts,
)
from keras_bnguard.records.ids import LayerId, TrainableFlags, layer_id


class ModelReader:
    """Reads one model: tree first, then flags, graph calls and statistics of its BN.

    Args:
        backend: the backend of the model.
        model: a Keras model.
        flags: the `trainable` of layers that counts instead of their own.
        compiled: the flags at `compile()`; empty where unknown.
    """

    def __init__(
        self, backend: Backend, model: Any, flags: TrainableFlags, compiled: TrainableFlags
    ) -> None:
        self._backend, self._model = backend, model
        self._flags, self._compiled = flags, compiled
        self._tree = LayerTree(backend, model)
        self._calls = GraphCalls(backend, model, self._tree.paths)
        self._above = self._tree.frozen_ancestors(self._flag)
        self._reaches = Access()
        self._unreadable: List[str] = []
        self._norms: List[Tuple[Any, NormHandle]] = []
        self._records: Dict[LayerId, LayerFlag] = {}

    def read(self) -> Tuple[LayerTree, List[NormHandle], Inventory]:
        """Return the layers and their paths, one handle a BN, and the description."""
        backend, model = self._backend, self._model
        name = str(getattr(model, "name", type(model).__name__))
        self._read_layer(model, "", name)
        for path, layer in self._tree.layers:
            self._read_layer(layer, path, path)
        handles = [handle for _, handle in self._norms]
        inventory = Inventory(
            model=name,
            stack=backend.stack,
            norms=self._describe_norms(handles),
            layers=tuple(self._records.values()),
            training_defaults=tuple(self._calls.training_defaults),
            functional=backend.graph.is_functional(model),
            compiled=bool(getattr(model, "optimizer", None)) or bool(self._compiled),
            built=bool(getattr(model, "built", True)),
            compiled_flags_known=bool(self._compiled),
            step_built=backend.step.is_built(model),
            unreadable=tuple(self._unreadable),
            replicas=backend.step.replicas(model),
            steps_per_execution=backend.step.steps_per_execution(model),
            saved_by=writer_of(model),
            call_without_training=self._call_without_training(),
            weights=self._weight_counts(),
            user_code=read_user_code(backend, model),
            stateful=tuple(
                path
                for path, layer in self._tree.layers
                if loops_over_time(backend.keras, layer) and layer.stateful
            ),
        )
        return self._tree, handles, inventory

    def _flag(self, layer: Any) -> bool:
        known = self._flags.get(layer_id(layer))
        return bool(layer.trainable) if known is None else known

    def _read_layer(self, layer: Any, path: str, handle_path: str) -> None:
        key = layer_id(layer)
        found: Sequence[NormHandle] = ()
        try:
            found = self._backend.graph.handles(layer, handle_path)
        except Exception:  # a layer of the user's that cannot be read
            self._unreadable.append(handle_path)
        self._norms += [(layer, handle) for handle in found]
        self._records[key] = LayerFlag(
            path=path,
            class_name=type(layer).__name__,
            container=self._tree.containers[key],
            position=len(self._records),
            trainable=self._flag(layer),
            compiled=self._compiled.get(key),
            weighted=self._backend.graph.owns_weights(layer),
            is_norm=bool(path) and any(h.kind is NormKind.KERAS for h in found),
        )

    def _call_without_training(self) -> Optional[Tuple[str, str]]:
        try:
            return call_without_training(self._backend, self._model)
        except Exception:  # a model of the user's whose methods cannot be read
            return None

    def _weight_counts(self) -> Optional[WeightCounts]:
        try:
            return count_weights(self._backend, self._model, self._flag, self._compiled)
        except Exception:  # a layer of the user's whose weights cannot be listed
            return None

    def _describe_norms(self, handles: List[NormHandle]) -> Tuple[NormLayer, ...]:
        axes = {layer_id(h.layer): _axis(h) for h in handles if h.kind is NormKind.KERAS}
        contexts = GraphContexts(self._backend, self._tree, axes)
        defaults = _at_defaults(self._backend, handles)
        varies = _affine_varies(self._backend, handles, defaults)
        return tuple(
            replace(self._describe(layer, handle, at_default, contexts), affine_varies=affine)
            for (layer, handle), at_default, affine in zip(self._norms, defaults, varies)
        )

    def _describe(
        self, layer: Any, handle: NormHandle, at_default: Optional[bool], contexts: GraphContexts
    ) -> NormLayer:
        key = layer_id(layer)
        mean = handle.vectors()[0]
        flag = self._flags.get(key)
        own = flag is None or handle.kind is NormKind.TORCH
        record = self._records[key]
        return NormLayer(
            path=handle.path,
            class_name=handle.class_name,
            kind=handle.kind,
            container=record.container,
            position=record.position,
            trainable=handle.own_flag() if own else bool(flag),
            frozen_ancestors=self._above.get(key, ()),
            compiled_trainable=self._compiled.get(key),
            momentum=handle.settings["momentum"],
            epsilon=handle.settings["epsilon"],
            channels=0 if mean is None else _size(mean),
            built=mean is not None,
            at_default=at_default,
            stats_dtype=None if mean is None else self._backend.values.dtype_of(mean),
            renorm=handle.settings["renorm"],
            synchronized=handle.settings["synchronized"],
            builtin=handle.builtin,
            behaviour=self._behaviour(handle),
            calls=tuple(self._calls.by_layer.get(key, ())),
            aliases=tuple(
                alias + handle.path[len(record.path) :] for alias in self._tree.aliases.get(key, ())
            ),
            wrapper=type(layer).__name__ if handle.kind is not NormKind.KERAS else "",
            flag_source=self._flag_source(key),
            graph_context=contexts.of(
                layer, _axis(handle), positions=writer_of(self._model) is not None
            ),
            access=self._access(layer),
        )

    def _access(self, layer: Any) -> Optional[str]:
        try:
            return self._reaches.of(self._tree.above(layer), layer)
        except Exception:  # a layer of the user's whose attributes cannot be read
            return None

    def _behaviour(self, handle: NormHandle) -> Optional[NormBehaviour]:
        return BUILTIN if handle.builtin else self._backend.values.norm_behaviour(handle)

    def _flag_source(self, key: LayerId) -> Optional[str]:
        """Where a BN's own flag was last set, else that of a frozen layer above it."""
        own = source_lines.flag_sources(self._backend, [key])
        if own:
            return own[key]
        above = set(self._above.get(key, ()))
        keys = [key for key, path in self._tree.paths.items() if path in above]
        return next(iter(source_lines.flag_sources(self._backend, keys).values()), None)


def _axis(handle: NormHandle) -> Optional[int]:
    return handle.settings.get("axis")


def _size(variable: Any) -> int:
    return int(np.prod([int(d) for d in variable.shape]))


def _at_defaults(backend: Backend, handles: List[NormHandle]) -> List[Optional[bool]]:
    """Per BN: mean all 0 and variance all 1; None where there is nothing to read yet.

    All vectors are read at once, as every separate read of a device waits for it.
    """
    vectors = [handle.vectors()[:2] for handle in handles]
    built = [mean is not None and variance is not None for mean, variance in vectors]
    known = [pair for pair, here in zip(vectors, built) if here]
    try:
        sizes = [_size(mean) for mean, _ in known]
        means = backend.values.flat([mean for mean, _ in known])
        variances = backend.values.flat([variance for _, variance in known])
    except Exception:  # values that cannot be read yet, or no more
        return [None] * len(handles)
    ends = np.cumsum(sizes, dtype=int)
    at_default = iter(
        bool(np.all(means[end - size : end] == 0) and np.all(variances[end - size : end] == 1))
        for size, end in zip(sizes, ends)
    )
    return [next(at_default) if here else None for here in built]


def _affine_varies(
    backend: Backend, handles: List[NormHandle], at_default: List[Optional[bool]]
) -> List[Optional[bool]]:
    """Per BN at its default: whether gamma or beta differs between channels; else None."""
    defaults = [handle for handle, default in zip(handles, at_default) if default]
    try:
        states = iter(backend.values.states(defaults) if defaults else [])
    except Exception:  # values that cannot be read yet, or no more
        return [None] * len(handles)
    return [_differs(next(states)) if default else None for default in at_default]


def _differs(state: NormState) -> bool:
    vectors = [vector for vector in (state.gamma, state.beta) if vector is not None]
    return any(bool(np.any(vector != vector.flat[0])) for vector in vectors if vector.size)
