"""BNG502: a live BN normalises by too few values."""

from __future__ import annotations

from typing import Iterable, Optional

from keras_bnguard.records import DataPart, Facts, NormLayer, Severity
from keras_bnguard.rules.base import (
    ON_CHANGE,
    Rule,
    Violation,
    count,
    freeze_code,
    sites_of,
    some,
    stack_of,
)
from keras_bnguard.rules.thresholds import (
    MIN_VALUES,
    batch_rows,
    live,
    measured,
    replicas,
    values_per_row,
    why_missing,
)


class BatchTooSmall(Rule):
    """A live BN has fewer than 8 values per channel in a training batch.

    What it checks:
        The rows of a full batch on one replica times the places (height x width, steps) that
        reach each live BN.

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
        Not certain: some networks train with less. Silent for frozen and held BN, for renorm,
        and for maps that have 8 places or more. Where batches are not arrays and no data was
        given, TensorFlow may not know the size of a batch; then the rule is skipped.

    Source:
        keras issues 8982 and 8983, tensorflow issue 44568. Ioffe 2017 for renorm.
    """

    code = "BNG502"
    name = "batch-too-small"
    severity = Severity.WARNING
    needs = ("A",)
    certain = False
    evaluated_at = ON_CHANGE

    def check(self, facts: Facts) -> Iterable[Violation]:
        few = [(norm, n) for norm in live(facts) if (n := _values(facts, norm)) is not None]
        few = [(norm, n) for norm, n in few if n < MIN_VALUES and not norm.renorm]
        if not few:
            return
        paths = tuple(norm.path for norm, _ in few)
        least = min(n for _, n in few)
        assert facts.inventory is not None
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(few), 'live BN layer')} with {least:g} "
                f"{'value' if least == 1 else 'values'} per channel in a batch (limit "
                f"{MIN_VALUES}): {some(paths)}. {stack_of(facts)} normalises by these alone"
                + (", so their output is beta whatever comes in." if least <= 1 else ".")
            ),
            fix=(
                f"use batches of at least {MIN_VALUES} values per channel, or freeze the BN:\n"
                + freeze_code(facts.inventory, [norm for norm, _ in few])
            ),
            evidence={"values_per_channel": {norm.path: n for norm, n in few}},
            severity=Severity.ERROR if least <= 1 else Severity.WARNING,
        )

    def skip_reason(self, facts: Facts) -> Optional[str]:
        norms = live(facts)
        if norms and all(_values(facts, norm) is None for norm in norms):
            why = (
                "the size of a batch is not known here; needs P (BNGuard(data=...)) or a first step"
            )
            return why_missing(facts, DataPart.NORMS) or why
        return None


def _values(facts: Facts, norm: NormLayer) -> Optional[float]:
    """Values per channel of one BN in one batch, None where unknown."""
    shared = 1 if norm.synchronized else replicas(facts)
    item = measured(facts).get(norm.path)
    rows, per_row = batch_rows(facts), values_per_row(facts, norm)
    if rows is not None and per_row is not None:
        return max(1.0, rows // shared) * per_row
    if item is not None and facts.data is not None and facts.data.ordered:
        return item.values * (facts.data.replicas if norm.synchronized else 1)
    sites = sites_of(facts.run, norm) if facts.run is not None else ()
    known = [site.values_per_channel for site in sites if site.values_per_channel is not None]
    return float(max(known)) if known else None
