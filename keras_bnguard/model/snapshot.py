"""A snapshot of a model: every BN in it, wherever it is, and what surrounds it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Collection, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.base import Backend
from keras_bnguard.backends.patches import source_lines
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.model.graph_calls import GraphCalls
from keras_bnguard.model.graph_context import GraphContexts
from keras_bnguard.model.layer_tree import LayerTree
from keras_bnguard.model.saved_by import writer_of
from keras_bnguard.model.shared import find_shared
from keras_bnguard.model.weight_counts import count_weights
from keras_bnguard.records import (
    BUILTIN,
    BlockFlags,
    Inventory,
    LayerFlag,
    NormBehaviour,
    NormKind,
    NormLayer,
    SharedNorm,
    WeightCounts,
)
from keras_bnguard.records.ids import LayerId, layer_id
from keras_bnguard.selectors import Selectors, select

_TORCH = NormBehaviour(trainable_updates=True, frozen_updates=True, frozen_uses_batch=True)


class ModelSnapshot:
    """The description of a model together with the live objects that it describes.

    The description is a frozen record. A method that learns more about the model replaces it.

    Attributes:
        backend: the backend of the model.
        model: the model.
        tree: its layers and their paths.
        handles: one handle a BN, in the order of `inventory.norms`.
        inventory: the description.
    """

    def __init__(
        self, backend: Backend, tree: LayerTree, handles: List[NormHandle], inventory: Inventory
    ) -> None:
        self.backend = backend
        self.model = tree.model
        self.tree = tree
        self.handles = handles
        self._inventory = inventory

    @property
    def inventory(self) -> Inventory:
        return self._inventory

    @property
    def layers(self) -> Sequence[Tuple[str, Any]]:
        """Every layer below the model with its path, in walking order, each once."""
        return self.tree.layers

    @property
    def paths(self) -> Mapping[LayerId, str]:
        """Path of every layer, "" of the model itself."""
        return self.tree.paths

    def select_norms(self, selector: Selectors) -> Tuple[str, ...]:
        """Paths of the BN that a selector picks.

        Args:
            selector: as in `keras_bnguard.selectors.select`.

        Raises:
            SelectorError: it picks none; lists near misses.
        """
        pairs = [(handle.path, handle.layer) for handle in self.handles]
        return select(selector, pairs, model=self.inventory.model, what="BN")

    def norms_with_current_flags(self) -> Tuple[NormLayer, ...]:
        """The BN with the flags that their layers have now, not those the snapshot was given."""
        above = self.tree.frozen_ancestors(lambda layer: bool(layer.trainable))
        return tuple(
            replace(
                norm,
                trainable=handle.own_flag(),
                frozen_ancestors=above.get(layer_id(handle.layer), ()),
            )
            for norm, handle in zip(self.inventory.norms, self.handles)
        )

    def mark_forced(self, paths: Collection[str], *, in_step: bool = False) -> None:
        """Note the BN that this package forces into inference mode.

        Args:
            paths: their paths; BN that are marked already stay so.
            in_step: the model's `train_step` forces them, and obeys `training=False` of graphs.
                Defaults to False: what is known of the step stays.
        """
        forced = set(paths)
        self._replace_norms(
            replace(norm, forced_inference=norm.forced_inference or norm.path in forced)
            for norm in self.inventory.norms
        )
        self._inventory = replace(self._inventory, guarded=self._inventory.guarded or in_step)

    def set_initial_defaults(self, at_default: Mapping[str, Optional[bool]]) -> None:
        """Put right which BN began with default statistics, after steps have changed them.

        Args:
            at_default: path -> whether mean was all 0 and variance all 1, None if unknown.
        """
        self._replace_norms(
            replace(norm, at_default=at_default.get(norm.path, norm.at_default))
            for norm in self.inventory.norms
        )

    def shared_norms(self) -> Tuple[SharedNorm, ...]:
        """BN that other compiled models hold too; searched at the first call.

        The search visits every object of the process: some tens of milliseconds.
        """
        if self._inventory.shared is None:
            shared = find_shared(self.backend, self.model, self.handles, self._inventory)
            self._inventory = replace(self._inventory, shared=shared)
        return self._inventory.shared or ()

    def set_blocks(self, blocks: Sequence[BlockFlags]) -> None:
        """Add the flags of the model's blocks."""
        self._inventory = replace(self._inventory, blocks=tuple(blocks))

    def _replace_norms(self, norms: Any) -> None:
        self._inventory = replace(self._inventory, norms=tuple(norms))


def take_snapshot(
    model: Any,
    *,
    flags: Optional[Mapping[int, bool]] = None,
    compiled: Optional[Mapping[int, bool]] = None,
) -> ModelSnapshot:
    """Describe a model and every BN in it.

    Finds BN in nested, functional, sequential and subclassed models, in wrappers and shared
    layers, in torch modules, and in variables of layers that hide their BN.

    Args:
        model: a Keras model, built or not, compiled or not.
        flags: id of a layer -> `trainable` that counts instead of the layer's own: Keras 2
            puts the user's flags aside during `fit`. Defaults to None: every layer's own.
        compiled: id of a layer -> its flag at `compile()`. Defaults to None: what the Keras
            of the model keeps.

    Returns:
        A `ModelSnapshot`. BN that this package forces are not marked, see
        `forced_inference.mark_forced_inference`.

    Raises:
        UnsupportedModelError: `model` is no Keras model or layer.
    """
    backend = backend_for(model)
    if compiled is None:
        compiled = backend.flags.compiled(model)
    snapshot = _Reading(backend, model, flags or {}, compiled or {}).snapshot()
    # Another model may train a frozen BN that has learnt nothing; without one it is a fault.
    if any(n.built and n.at_default and n.frozen for n in snapshot.inventory.norms):
        snapshot.shared_norms()
    return snapshot


class _Reading:
    """Reads one model: tree first, then flags, graph calls and statistics of its BN."""

    def __init__(
        self, backend: Backend, model: Any, flags: Mapping[int, bool], compiled: Mapping[int, bool]
    ) -> None:
        self._backend, self._model = backend, model
        self._flags, self._compiled = flags, compiled
        self._tree = LayerTree(backend, model)
        self._calls = GraphCalls(backend, model, self._tree.paths)
        self._above = self._tree.frozen_ancestors(self._flag)
        self._unreadable: List[str] = []
        self._norms: List[Tuple[Any, NormHandle]] = []
        self._records: Dict[LayerId, LayerFlag] = {}

    def snapshot(self) -> ModelSnapshot:
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
            weights=self._weight_counts(),
        )
        return ModelSnapshot(backend, self._tree, handles, inventory)

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

    def _weight_counts(self) -> Optional[WeightCounts]:
        try:
            return count_weights(self._backend, self._model, self._flag, self._compiled)
        except Exception:  # a layer of the user's whose weights cannot be listed
            return None

    def _describe_norms(self, handles: List[NormHandle]) -> Tuple[NormLayer, ...]:
        axes = {layer_id(h.layer): _axis(h) for h in handles if h.kind is NormKind.KERAS}
        contexts = GraphContexts(self._backend, self._tree, axes)
        defaults = _at_defaults(self._backend, handles)
        return tuple(
            self._describe(layer, handle, at_default, contexts)
            for (layer, handle), at_default in zip(self._norms, defaults)
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
            aliases=tuple(self._tree.aliases.get(key, ())),
            wrapper=type(layer).__name__ if handle.kind is not NormKind.KERAS else "",
            flag_source=self._flag_source(key),
            graph_context=contexts.of(
                layer, _axis(handle), positions=writer_of(self._model) is not None
            ),
        )

    def _behaviour(self, handle: NormHandle) -> Optional[NormBehaviour]:
        if handle.kind is NormKind.TORCH:
            return _TORCH
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
