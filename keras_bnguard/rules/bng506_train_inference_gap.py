"""BNG506: the same batches have a much larger loss in inference mode."""

from __future__ import annotations

import math
from typing import Any, Iterable, Mapping, Optional

from keras_bnguard.records import (
    DataFacts,
    DataPart,
    Gap,
    Inventory,
    MomentKind,
    RunFacts,
    Severity,
    SkipKind,
    SkipReason,
    Trigger,
)
from keras_bnguard.rules.base import AT_THE_END, Rule, Violation
from keras_bnguard.rules.predicates import learning_norms, not_measured, recalibrates
from keras_bnguard.rules.text import after_line, recalibrate_code, some
from keras_bnguard.rules.thresholds import MIN_VALUES

MAX_RATIO = 1.5
MIN_GAP = 0.1
MIN_ERRORS = 3.0
MIN_ACCURACY = 0.02


class TrainInferenceGap(Rule):
    """The loss of the same batches is much larger in inference mode than in training mode.

    What it checks:
        Your batches, twice: trainable BN with batch statistics, and with moving statistics.
        Dropout and augmentation are off both times. In `fit` when training is over, in
        `audit` with the model as it is.

    Why it matters:
        The two modes must agree, or training proves nothing about `predict`. A gap means that
        the moving statistics are slow, drifted, of other batches, or of other weights.

    How it decides:
        loss in inference mode above 1.5 x the loss with batch statistics, and 0.1 more, and 3
        standard errors (over batches) more; and accuracy 0.02 lower, where it can be computed.
        docs/data-rules.md has the experiment.

    Example:
        model.fit(x, y, epochs=2)                # train 0.97, evaluate 0.54
        bng.audit(model, (x, y))

    Fix:
        Recompute the statistics; then look for the cause in the other findings.

    Known limits:
        Silent where `bng.Recalibrate` is a callback of the same `fit`.
        Not certain about the cause. Silent where inference mode is the better of the two,
        where both losses are tiny, for batches of fewer than 8 values per channel, whose loss
        is noise, and for models that have not trained.

    Source:
        The "learning phase 0 / 1" test of Keras forums; keras issues 6977 and 9965.
    """

    code = "BNG506"
    name = "train-inference-gap"
    severity = Severity.WARNING
    certain = False
    evaluated_at = AT_THE_END | {Trigger.LOOP_END}
    consequence_of = (
        "BNG402",
        "BNG401",
        "BNG405",
        "BNG301",
        "BNG501",
        "BNG502",
        "BNG406",
        "BNG407",
    )

    def check(
        self,
        inventory: Inventory,
        data: DataFacts,
        run: Optional[RunFacts] = None,
        fit_settings: Optional[Mapping[str, Any]] = None,
    ) -> Iterable[Violation]:
        if data.gap is None:
            return
        if _not_comparable(inventory, run, data, data.gap) or recalibrates(fit_settings):
            return
        gap = data.gap
        if not large(gap):
            return
        paths = tuple(norm.path for norm in learning_norms(inventory, run))
        accuracy = ""
        if gap.accuracy is not None:
            accuracy = f", accuracy {gap.accuracy[0]:.3f} and {gap.accuracy[1]:.3f}"
        yield Violation(
            layers=paths,
            message=(
                f"The same {gap.rows} rows have a loss of {gap.training:.4g} with batch statistics "
                f"and {gap.inference:.4g} with moving statistics{accuracy}: {some(paths)}. Limit "
                f"{MAX_RATIO:g} x and {MIN_GAP:g} more; the difference is known to "
                f"+-{gap.standard_error:.2g}. {inventory.stack} uses the latter in predict."
            ),
            fix=(
                f"recompute the statistics over training data, {after_line(inventory)} (or by "
                "bng.Recalibrate among the callbacks of fit):\n" + recalibrate_code(inventory)
            ),
            evidence={
                "training": gap.training,
                "inference": gap.inference,
                "standard_error": gap.standard_error,
                "accuracy": gap.accuracy,
                "limits": (MAX_RATIO, MIN_GAP, MIN_ERRORS, MIN_ACCURACY),
            },
        )

    def skip_reason(
        self,
        inventory: Inventory,
        data: DataFacts,
        run: Optional[RunFacts] = None,
        fit_settings: Optional[Mapping[str, Any]] = None,
    ) -> Optional[SkipReason]:
        if data.gap is None:
            return not_measured(data, DataPart.GAP) or SkipReason(
                SkipKind.TOO_EARLY, "measured when training is over"
            )
        return _not_comparable(inventory, run, data, data.gap)


def large(gap: Gap) -> bool:
    """Whether a gap is beyond all limits; NaN counts as not measured."""
    if gap.accuracy is not None and gap.accuracy[0] - gap.accuracy[1] < MIN_ACCURACY:
        return False
    more = gap.inference - gap.training
    noise = gap.standard_error if math.isfinite(gap.standard_error) else 0.0
    return (
        math.isfinite(more)
        and more > MIN_GAP
        and gap.inference > MAX_RATIO * gap.training
        and more > MIN_ERRORS * noise
    )


def _not_comparable(
    inventory: Inventory, run: Optional[RunFacts], data: DataFacts, gap: Gap
) -> Optional[SkipReason]:
    """Why the two losses of a gap cannot be compared; None where they can."""
    norms = learning_norms(inventory, run)
    if not norms:
        return SkipReason(SkipKind.NOT_MEASURED, "no BN updates its moving statistics")
    if gap.values < MIN_VALUES:
        return SkipReason(
            SkipKind.NOT_ENOUGH_DATA,
            f"a batch has only {gap.values:g} values per channel, too few to compare with",
        )
    if data.moment.kind is MomentKind.AUDIT and any(norm.at_default for norm in norms):
        return SkipReason(SkipKind.TOO_EARLY, "the model has not trained")
    return None
