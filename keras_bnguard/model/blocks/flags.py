"""Flags of a model's blocks, for the rule that asks whether one is cut in half."""

from __future__ import annotations

from keras_bnguard.model.blocks.finder import find_blocks
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import BlockFlags


def add_blocks(snapshot: ModelSnapshot) -> ModelSnapshot:
    """The same snapshot with the blocks of its model; some milliseconds for a hundred layers."""
    flags = {layer.path: layer for layer in snapshot.inventory.layers}
    found = []
    for block in find_blocks(snapshot):
        layers = [flags[path] for path in block.paths if not flags[path].is_norm]
        found.append(
            BlockFlags(
                name=block.name,
                trains=tuple(layer.path for layer in layers if layer.trainable),
                frozen=tuple(layer.path for layer in layers if not layer.trainable),
            )
        )
    snapshot.set_blocks(found)
    return snapshot
