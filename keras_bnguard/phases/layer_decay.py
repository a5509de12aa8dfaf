"""Layer-wise decay of the learning rate: the further from the output, the smaller the rate."""

from __future__ import annotations

from typing import Dict

from keras_bnguard.model.blocks.finder import find_blocks
from keras_bnguard.model.snapshot import ModelSnapshot


def block_depths(snapshot: ModelSnapshot) -> Dict[str, int]:
    """Path -> how many blocks lie between a layer and the output; "" is the model itself.

    Blocks are those of `block_finder.find_blocks` over the whole model, whether they train or
    not, so the depth of a layer is the same in every phase: 0 in the last block. A shared
    layer counts where it is called first. Weights that the model itself owns count as part of
    the first block, as class token and position embedding do in BEiT.
    """
    found = find_blocks(snapshot)
    deepest = max(len(found) - 1, 0)
    depths = {path: deepest for path, _ in snapshot.layers}
    depths[""] = deepest
    for i, block in enumerate(found):
        depths.update(dict.fromkeys(block.paths, deepest - i))
    return depths


def rate_factors(snapshot: ModelSnapshot, decay: float) -> Dict[str, float]:
    """Path -> factor on the learning rate, `decay ** depth`; empty for a decay of 1.

    Source: Howard and Ruder, "Universal Language Model Fine-tuning" (arXiv:1801.06146), 3.2,
    with a decay of 1/2.6 per layer; Clark et al., ELECTRA (arXiv:2003.10555), appendix A, with
    0.8 and 0.9 per transformer block; Bao et al., BEiT (arXiv:2106.08254), likewise.
    """
    if decay == 1.0:
        return {}
    return {path: decay**depth for path, depth in block_depths(snapshot).items()}
