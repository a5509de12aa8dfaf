"""Where a model has its backbone, and which of its layers are the new head on top of it."""

from __future__ import annotations

from typing import Any, List, Set, Tuple

from keras_bnguard.errors import ScheduleError
from keras_bnguard.model.blocks.finder import Block, find_blocks
from keras_bnguard.model.snapshot import ModelSnapshot


def head_and_backbone(
    snapshot: ModelSnapshot, backbone: str = ""
) -> Tuple[List[str], Tuple[Block, ...]]:
    """Return the paths of the head's layers with weights, and the blocks of the backbone.

    Args:
        snapshot: a built model.
        backbone: path of the pretrained sub-model. Defaults to "": the one sub-model that
            contains most of the parameters; in a model without one (a network with its head put
            on top in one graph) all blocks up to the last that has a BN with trained
            statistics, of that one without what follows this BN where a new BN does; where no
            BN has any (weights=None, or no BN), all but the last block.

    Returns:
        The paths in the order of the model, and the blocks from bottom to top.

    Raises:
        ScheduleError: nothing lies outside the backbone, or it has no weights.
        SelectorError: there is no layer at the path `backbone`.
    """
    path = backbone or _largest_inside(snapshot)
    if path:
        body = find_blocks(snapshot, path)
    else:
        found = find_blocks(snapshot)
        trained = {norm.path for norm in snapshot.inventory.norms if norm.at_default is False}
        ends = [i for i, block in enumerate(found, 1) if trained & set(block.paths)]
        body = _without_new_end(snapshot, found[: ends[-1]], trained) if ends else found[:-1]
    inside = {path for block in body for path in block.paths}
    owns_weights = snapshot.backend.graph.owns_weights
    head = [path for path, layer in snapshot.layers if owns_weights(layer) and path not in inside]
    if not head or not body:
        what = f"backbone={path!r}" if path else "what has trained BN statistics"
        raise ScheduleError(
            f"{what} is the whole model {snapshot.inventory.model!r}: there is no head to train "
            "first. Put a head on it, or name the sub-model that is the backbone."
            if body
            else f"{what} has no layers with weights. Name the sub-model that is the backbone."
        )
    return head, body


def _without_new_end(
    snapshot: ModelSnapshot, body: Tuple[Block, ...], trained: Set[str]
) -> Tuple[Block, ...]:
    """Take off what follows the last trained BN of the last block, where a new BN is in it.

    Where a new part is joined to the old one by more than one tensor, as the decoder of a U-Net,
    no block ends between them.
    """
    last = body[-1]
    new = {norm.path for norm in snapshot.inventory.norms if norm.at_default}
    end = max(i for i, path in enumerate(last.paths, 1) if path in trained)
    if new.isdisjoint(last.paths[end:]):
        return body
    kept, layers = last.paths[:end], dict(snapshot.layers)
    count = sum(snapshot.backend.flags.trainable_count(layers[path]) for path in kept)
    return (*body[:-1], Block(last.name, kept, count))


def new_layers(snapshot: ModelSnapshot) -> List[str]:
    """Return the paths of the head's layers with weights; none where no head can be found."""
    try:
        return head_and_backbone(snapshot)[0]
    except ScheduleError:
        return []


def _largest_inside(snapshot: ModelSnapshot) -> str:
    """Path of the sub-model directly inside with more than half of all parameters."""
    backend = snapshot.backend

    def size(layer: Any) -> int:
        return sum(backend.flags.trainable_count(each) for each in backend.graph.all_layers(layer))

    total = size(snapshot.model)
    for path, layer in snapshot.layers:
        if "/" not in path and backend.graph.is_model(layer) and 2 * size(layer) > total:
            return path
    return ""
