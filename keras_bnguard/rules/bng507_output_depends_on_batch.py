"""BNG507: a row's prediction depends on the rows around it."""

from __future__ import annotations

from typing import Iterable, Optional

from keras_bnguard.records import DataFacts, DataPart, Inventory, Severity, SkipKind, SkipReason
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.predicates import not_measured
from keras_bnguard.rules.text import bng_code, some

MAX_DIFFERENCE = 1e-3
TIMES_FORCED = 10.0


class OutputDependsOnBatch(Rule):
    """A row predicted alone differs from the same row predicted in a batch.

    What it checks:
        The first row of your data alone and among 8 rows, in inference mode, as `predict`
        runs it.

    Why it matters:
        A BN that uses batch statistics in `predict` gives answers that depend on what else
        was asked: a metric on a test set means nothing, a single request gives beta.

    How it decides:
        Largest difference over all outputs, as a share of their standard deviation in the
        batch, above 0.001, and 10 times what is left with every BN forced into inference mode,
        which is rounding, or a dependence that BN has nothing to do with.

    Example:
        def call(self, x, training=None):
            return self.bn(x, training=True)

    Fix:
        Hand `training` on instead of True. Load old models with the learning phase at 0.

    Known limits:
        Skipped where the same batch twice gives two answers (dropout that stays on). Clear
        without a run where the graph shows that every BN runs in inference mode.

    Source:
        keras issues 3078, 3423, 4290 and 10381, tensorflow issue 28580.
    """

    code = "BNG507"
    name = "output-depends-on-batch"
    severity = Severity.ERROR
    certain = True

    def check(self, inventory: Inventory, data: DataFacts) -> Iterable[Violation]:
        if data.batch_dependence is None:
            return
        found = data.batch_dependence
        if found.proven or found.random or not found.difference > MAX_DIFFERENCE:
            return
        if not found.difference > TIMES_FORCED * found.difference_forced:
            return
        norms = inventory.norms if inventory is not None else ()
        paths = found.layers or tuple(norm.path for norm in norms)
        yield Violation(
            layers=paths,
            message=(
                "The prediction for a row depends on the other rows of the batch: the difference "
                f"is {found.difference:.3g} of the outputs' standard deviation (limit "
                f"{MAX_DIFFERENCE:g}), {found.difference_forced:.2g} with BN forced into inference "
                f"mode. Batch statistics in predict: {some(paths)}. {inventory.stack} does so "
                "because the call has training=True."
            ),
            fix=(
                "pass the argument on, `self.bn(x, training=training)`, not training=True; or "
                "force inference mode around predict where you cannot edit the model:\n"
                + bng_code(
                    f"with bng.force_inference({inventory.user_code.model}, layers={list(paths)}):",
                    f"    {inventory.user_code.model}.predict({inventory.user_code.x})",
                )
            ),
            evidence={
                "difference": found.difference,
                "difference_forced": found.difference_forced,
                "limit": MAX_DIFFERENCE,
            },
        )

    def skip_reason(self, inventory: Inventory, data: DataFacts) -> Optional[SkipReason]:
        if data.batch_dependence is not None and data.batch_dependence.random:
            return SkipReason(
                SkipKind.NOT_MEASURED, "the same batch twice gave different outputs, BN or not"
            )
        return not_measured(data, DataPart.BATCH_DEPENDENCE) or not_measured(data, DataPart.NORMS)
