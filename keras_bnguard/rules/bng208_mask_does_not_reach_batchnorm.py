"""BNG208: a layer drops the mask before it reaches a BN."""

from __future__ import annotations

from typing import Iterable

from keras_bnguard.records import Inventory, Severity
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.predicates import expects_inference
from keras_bnguard.rules.text import count, some


class MaskDoesNotReachBatchnorm(Rule):
    """Padding is masked, but a layer between mask and BN drops the mask.

    What it checks:
        Trainable BN after a `Masking` layer or an `Embedding(mask_zero=True)`, in a graph.

    Why it matters:
        BN leaves masked time steps out of its statistics when the mask arrives. When a layer in
        between does not propagate it (Conv1D, pooling, Lambda, Reshape), padding counts like data:
        with half of the steps padded, the mean is half of what it should be, and it changes
        with the length of the longest sequence in the batch.

    How it decides:
        The symbolic tensor that goes into the BN carries no mask, one before it does, and the
        time axis is still there (three axes or more on the whole way). Only the first input of
        a layer with several is followed.

    Example:
        x = keras.layers.Embedding(5000, 64, mask_zero=True)(tokens)
        x = keras.layers.Conv1D(64, 3, padding="same")(x)    # drops the mask
        x = keras.layers.BatchNormalization()(x)

    Fix:
        Put BN where the mask still arrives, or use LayerNormalization, which does not use
        other rows.

    Known limits:
        Not certain: with little padding, or lengths that are alike, it hardly matters. Silent
        for BN in inference mode, after a layer that ends the time axis, and in models that are
        no graph.

    Source:
        Measured on five stacks: mean 4.0 with the mask, 2.0 without; tensorflow issue 30161,
        keras issue 18759.
    """

    code = "BNG208"
    name = "mask-does-not-reach-batchnorm"
    severity = Severity.WARNING
    certain = False

    def check(self, inventory: Inventory) -> Iterable[Violation]:
        violation = [
            n for n in inventory.norms if n.graph_context.lost_mask and not expects_inference(n)
        ]
        lost = [
            n.graph_context.lost_mask for n in violation if n.graph_context.lost_mask is not None
        ]
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        makers = tuple(dict.fromkeys(mask.made_by for mask in lost))
        droppers = tuple(dict.fromkeys(mask.dropped_by for mask in lost))
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'trainable BN layer')} without the mask of "
                f"{some(makers)}: {some(paths)}. {some(droppers)} does not propagate it, so "
                f"{inventory.stack} counts padded time steps in their mean and variance."
            ),
            fix=(
                "normalize before the layer that drops the mask, or within each row, by "
                "keras.layers.LayerNormalization"
            ),
            evidence={"made_by": makers, "dropped_by": droppers},
        )
