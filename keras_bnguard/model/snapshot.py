"""A snapshot of a model: every BN in it, wherever it is, and what surrounds it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Collection, Dict, List, Mapping, Optional, Sequence, Tuple

from keras_bnguard.backends.base import Backend
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.model.layer_tree import LayerTree
from keras_bnguard.model.reader import ModelReader
from keras_bnguard.model.shared import find_shared
from keras_bnguard.records import (
    BlockFlags,
    Inventory,
    NormLayer,
    Provenance,
    SharedNorm,
    Verification,
)
from keras_bnguard.records.ids import LayerId, TrainableFlags, layer_id
from keras_bnguard.selectors import Selectors, select


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

    @property
    def aliases(self) -> Dict[str, Sequence[str]]:
        """The other paths of the layers that are reached more than once, by path."""
        return {self.tree.paths[key]: found for key, found in self.tree.aliases.items()}

    def select_norms(self, selector: Selectors) -> Tuple[str, ...]:
        """Paths of the BN that a selector picks.

        Args:
            selector: as in `keras_bnguard.selectors.select`.

        Raises:
            SelectorError: it picks none; lists near misses.
        """
        pairs = [(handle.path, handle.layer) for handle in self.handles]
        aliases = {norm.path: norm.aliases for norm in self.inventory.norms}
        return select(selector, pairs, model=self.inventory.model, what="BN", aliases=aliases)

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

    def note_verification(self, known: Mapping[str, Verification]) -> None:
        """Note what is known of BN that are forced.

        Args:
            known: by path; what was known of others stays.
        """
        norms = self.inventory.norms
        if all(known.get(n.path, n.verification) is n.verification for n in norms):
            return
        self._replace_norms(
            replace(norm, verification=known.get(norm.path, norm.verification)) for norm in norms
        )

    def set_initial_defaults(self, at_default: Mapping[str, Optional[bool]]) -> None:
        """Put right which BN began with default statistics, after steps have changed them.

        Args:
            at_default: path -> whether mean was all 0 and variance all 1, None if unknown.
        """
        self._replace_norms(
            replace(norm, at_default=at_default.get(norm.path, norm.at_default))
            for norm in self.inventory.norms
        )

    def set_provenance(self, known: Mapping[str, Optional[Provenance]]) -> None:
        """Note where the statistics of BN come from.

        Args:
            known: by path; None where it is not known.
        """
        self._replace_norms(
            replace(norm, provenance=known.get(norm.path)) for norm in self.inventory.norms
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
    flags: Optional[TrainableFlags] = None,
    compiled: Optional[TrainableFlags] = None,
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
    reader = ModelReader(backend, model, flags or {}, compiled or {})
    snapshot = ModelSnapshot(backend, *reader.read())
    # Another model may train a frozen BN that has learnt nothing; without one it is a fault.
    if any(n.built and n.at_default and n.frozen for n in snapshot.inventory.norms):
        snapshot.shared_norms()
    return snapshot
