"""BNG604: gradients are accumulated over batches, BN statistics are not."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Optional

from keras_bnguard.records import Inventory, OptimizerFacts, Severity
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.predicates import expects_inference
from keras_bnguard.rules.text import count, some


class GradientAccumulation(Rule):
    """The optimizer accumulates gradients over batches; trainable BN gets each batch alone.

    What it checks:
        `gradient_accumulation_steps` of the optimizer, and trainable BN.

    Why it matters:
        Accumulation makes eight batches of 4 act like one of 32 for the weights. BN still
        uses the statistics of 4 rows, and updates its own at every one of the eight, while the
        kernels stay as they are in between.

    How it decides:
        The setting of the optimizer, above 1. A fact.

    Example:
        keras.optimizers.Adam(1e-4, gradient_accumulation_steps=8)

    Fix:
        Freeze BN, or use GroupNormalization; accumulation does not help BN.

    Known limits:
        Wrappers that accumulate, of other packages, are not seen. Silent without trainable BN.

    Source:
        Measured on Keras 3.15.1 with four steps: statistics change at every batch, kernels at
        every fourth; keras issue 16633, GradientAccumulator issues 6 and 47.
    """

    code = "BNG604"
    name = "gradient-accumulation"
    severity = Severity.INFO

    def check(
        self,
        inventory: Inventory,
        optimizer: OptimizerFacts,
        fit_settings: Optional[Mapping[str, Any]] = None,
    ) -> Iterable[Violation]:
        if optimizer.accumulation < 2:
            return
        paths = tuple(norm.path for norm in inventory.norms if not expects_inference(norm))
        if not paths:
            return
        steps = optimizer.accumulation
        batch = (fit_settings or {}).get("batch_size")
        sizes = f" of {batch} rows, the weights by {steps * int(batch)}" if batch else ""
        yield Violation(
            layers=paths,
            message=(
                f"{optimizer.class_name} accumulates gradients over {steps} batches; "
                f"{count(len(paths), 'trainable BN layer')} ({some(paths)}) still uses each batch"
                f"{sizes}. {inventory.stack} updates their statistics {steps} times per update."
            ),
            fix=(
                "freeze the BN, or use a normalization that does not use other rows, such as "
                "keras.layers.GroupNormalization"
            ),
            evidence={"accumulation": steps, "batch_size": batch},
        )
