"""BNG503: the last batch of each epoch leaves a trainable BN too few values."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Optional

from keras_bnguard.records import DataFacts, Inventory, RunFacts, Severity, SkipKind, SkipReason
from keras_bnguard.rules.base import ON_CHANGE, Rule, Violation
from keras_bnguard.rules.batch_sizes import BatchSizes
from keras_bnguard.rules.predicates import learning_norms
from keras_bnguard.rules.text import before_line, count, indent, some
from keras_bnguard.rules.thresholds import MIN_VALUES


class TinyLastBatch(Rule):
    """The last batch of an epoch has too few values per channel for a trainable BN.

    What it checks:
        samples % batch size, on each replica, times the places that reach each trainable BN.

    Why it matters:
        Every epoch ends with a step whose batch statistics are noise, and validation comes
        right after it. One row gives variance 0, on some GPU kernels NaN; a replica without
        rows writes NaN into the moving statistics.

    How it decides:
        last rows = samples % batch size, for arrays and for data that was read to its end;
        last rows / replicas x values per channel of one row, while a full batch has 8 or more.
        A warning where it is one value, info from 2 to 7: about one sample count in five leaves
        so many at batches of 32, and it is one noisy step in an epoch. An error where a replica
        gets no row.

    Example:
        model.fit(x[:65], y[:65], batch_size=32)         # 32, 32, 1

    Fix:
        Drop the remainder or choose a batch size that leaves none.

    Known limits:
        Not certain: with momentum 0.99 one step in a long epoch weighs 1 %. Silent where the
        remainder is dropped, for frozen BN, and for steps_per_epoch, which may never reach
        the last batch. The length of generators and of a tf.data.Dataset that was not read to
        its end is not known; then the rule is skipped.

    Source:
        tensorflow issues 34062, 46205 and 41657, keras issues 11858 and 17204.
    """

    code = "BNG503"
    name = "tiny-last-batch"
    severity = Severity.WARNING
    certain = False
    evaluated_at = ON_CHANGE

    def check(
        self,
        inventory: Inventory,
        fit_settings: Mapping[str, Any],
        run: Optional[RunFacts] = None,
        data: Optional[DataFacts] = None,
    ) -> Iterable[Violation]:
        sizes = BatchSizes(run, data, fit_settings)
        rows, last = sizes.rows, _last_rows(data, fit_settings)
        if rows is None or not last or last == rows or _stops_early(fit_settings):
            return
        shared = sizes.replicas
        violation = {}
        for norm in learning_norms(inventory, run):
            per_row = sizes.values_per_row(norm)
            if per_row is None or norm.renorm:
                continue
            parts = 1 if norm.synchronized else shared
            if (rows // parts) * per_row >= MIN_VALUES > (last // parts) * per_row:
                violation[norm.path] = (last // parts) * per_row
        if not violation:
            return
        paths = tuple(violation)
        fewest = min(violation.values())
        each = f", shared by {shared} replicas" if shared > 1 else ""
        yield Violation(
            layers=paths,
            message=(
                f"The last batch of each epoch has {count(last, 'row')} of {rows}{each}: "
                f"{fewest:g} values per channel (limit {MIN_VALUES}) for "
                f"{count(len(violation), 'trainable BN layer')}: {some(paths)}. {inventory.stack} "
                + ("gives a replica an empty batch." if fewest == 0 else "takes that step too.")
            ),
            fix=(
                "choose another batch size, or drop the remainder (batch(drop_remainder=True) of "
                "tf.data)" + _drop(inventory, fit_settings, rows, last)
            ),
            evidence={"last_rows": last, "batch_rows": rows, "values_per_channel": violation},
            severity=_severity(fewest),
        )

    def skip_reason(
        self,
        inventory: Inventory,
        fit_settings: Mapping[str, Any],
        run: Optional[RunFacts] = None,
        data: Optional[DataFacts] = None,
    ) -> Optional[SkipReason]:
        norms = learning_norms(inventory, run)
        if not norms:
            return None
        if _stops_early(fit_settings):
            return SkipReason(
                SkipKind.NOT_KNOWN, "steps_per_epoch is given, so the last batch may never come"
            )
        if _last_rows(data, fit_settings) is None:
            return SkipReason(SkipKind.NOT_KNOWN, "the length of the data is not known")
        sizes = BatchSizes(run, data, fit_settings)
        if all(sizes.values_per_row(norm) is None for norm in norms):
            return SkipReason(
                SkipKind.NOT_KNOWN,
                "the size of the maps is not known; needs batches of your data "
                "(BNGuard(data=...)) or a first step",
            )
        return None


def _last_rows(data: Optional[DataFacts], fit_settings: Mapping[str, Any]) -> Optional[int]:
    """Rows of the last batch; None where unknown."""
    samples, rows = fit_settings.get("samples"), fit_settings.get("batch_size")
    if samples and rows:
        return int(samples) % int(rows) if samples > rows else int(rows)
    if fit_settings.get("batch_size") is None and data is not None and data.ordered:
        return data.last_rows
    return None


def _stops_early(fit_settings: Mapping[str, Any]) -> bool:
    return bool(fit_settings.get("steps_per_epoch"))


def _severity(fewest: float) -> Severity:
    if fewest == 0:
        return Severity.ERROR
    return Severity.INFO if fewest > 1 else Severity.WARNING


def _drop(inventory: Inventory, fit_settings: Mapping[str, Any], rows: int, last: int) -> str:
    """Code that shortens arrays, where `fit` trains on arrays."""
    samples, code = fit_settings.get("samples"), inventory.user_code
    if not samples:
        return ""
    kept = int(samples) // rows * rows
    return f"; for arrays, {before_line(inventory)}:\n" + indent(
        f"{code.x}, {code.y} = {code.x}[:{kept}], {code.y}[:{kept}]"
    )
