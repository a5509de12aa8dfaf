"""BNG502: a trainable BN gets too few values."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Optional

from keras_bnguard.records import (
    DataFacts,
    DataPart,
    Inventory,
    RunFacts,
    Severity,
    SkipKind,
    SkipReason,
)
from keras_bnguard.rules.base import ON_CHANGE, Rule, Violation
from keras_bnguard.rules.batch_sizes import BatchSizes
from keras_bnguard.rules.predicates import learning_norms, not_measured
from keras_bnguard.rules.text import before_line, count, freeze_code, some
from keras_bnguard.rules.thresholds import MIN_VALUES


class BatchTooSmall(Rule):
    """A trainable BN has fewer than 8 values per channel in a training batch.

    What it checks:
        The rows of a full batch on one replica times the places (height x width, steps) that
        reach each trainable BN.

    Why it matters:
        BN divides by the standard deviation of these values. Of 4 values it is wrong by a
        third, of 1 value it is 0: the output is beta whatever the input, and the layers below
        learn nothing.

    How it decides:
        values per channel = rows per replica x values per channel of one row (all replicas
        where the BN is synchronized), below 8. 1 is an error.

    Example:
        model.fit(x, y, batch_size=2)            # BN after Dense

    Fix:
        Use larger batches, freeze the BN, or replace it by GroupNormalization.

    Known limits:
        Not certain: some networks train with less. Silent for frozen BN and forced inference,
        for renorm, and for maps that have 8 places or more. Where batches are not arrays and no
        data was given, TensorFlow may not know the size of a batch; then the rule is skipped.

    Source:
        keras issues 8982 and 8983, tensorflow issue 44568. Ioffe 2017 for renorm.
    """

    code = "BNG502"
    name = "batch-too-small"
    severity = Severity.WARNING
    certain = False
    evaluated_at = ON_CHANGE

    def check(
        self,
        inventory: Inventory,
        run: Optional[RunFacts] = None,
        data: Optional[DataFacts] = None,
        fit_settings: Optional[Mapping[str, Any]] = None,
    ) -> Iterable[Violation]:
        sizes = BatchSizes(run, data, fit_settings)
        norms = learning_norms(inventory, run)
        few = [(norm, n) for norm in norms if (n := sizes.values(norm)) is not None]
        few = [(norm, n) for norm, n in few if n < MIN_VALUES and not norm.renorm]
        if not few:
            return
        paths = tuple(norm.path for norm, _ in few)
        least = min(n for _, n in few)
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(few), 'trainable BN layer')} with {least:g} "
                f"{'value' if least == 1 else 'values'} per channel in a batch (limit "
                f"{MIN_VALUES}): {some(paths)}. {inventory.stack} takes its batch statistics from "
                "these" + (", so their output is beta whatever comes in." if least <= 1 else ".")
            ),
            fix=(
                f"use batches of at least {MIN_VALUES} values per channel, or freeze the BN, "
                f"{before_line(inventory)}:\n" + freeze_code(inventory, [norm for norm, _ in few])
            ),
            evidence={"values_per_channel": {norm.path: n for norm, n in few}},
            severity=Severity.ERROR if least <= 1 else Severity.WARNING,
        )

    def skip_reason(
        self,
        inventory: Inventory,
        run: Optional[RunFacts] = None,
        data: Optional[DataFacts] = None,
        fit_settings: Optional[Mapping[str, Any]] = None,
    ) -> Optional[SkipReason]:
        sizes = BatchSizes(run, data, fit_settings)
        norms = learning_norms(inventory, run)
        if norms and all(sizes.values(norm) is None for norm in norms):
            return not_measured(data, DataPart.NORMS) or SkipReason(
                SkipKind.NOT_KNOWN,
                "the size of a batch is not known here; needs batches of your data "
                "(BNGuard(data=...)) or a first step",
            )
        return None
