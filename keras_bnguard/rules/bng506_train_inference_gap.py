"""BNG506: the same batches have a much larger loss in inference mode."""

from __future__ import annotations

import math
from typing import Iterable, Optional

from keras_bnguard.records import DataPart, Facts, Gap, Severity, Trigger
from keras_bnguard.rules.base import AT_THE_END, Rule, Violation, indent, some, stack_of
from keras_bnguard.rules.thresholds import MIN_VALUES, live, put_right, why_missing

MAX_RATIO = 1.5
MIN_GAP = 0.1
MIN_ERRORS = 3.0
MIN_ACCURACY = 0.02


class TrainInferenceGap(Rule):
    """The loss of the same batches is much larger with moving statistics than by the batch.

    What it checks:
        Your batches, twice: live BN normalising by the batch, and by their moving statistics.
        Dropout and augmentation are off both times. In `fit` when training is over, in
        `audit` with the model as it is.

    Why it matters:
        The two modes must agree, or training tells nothing about `predict`. A gap means that
        the moving statistics are slow, drifted, of other batches, or of other weights.

    How it decides:
        loss in inference mode above 1.5 x the loss by the batch, and 0.1 more, and 3 standard
        errors (over batches) more; and accuracy 0.02 lower, where it can be computed.
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
    needs = ("A", "P")
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

    def check(self, facts: Facts) -> Iterable[Violation]:
        data = facts.data
        if data is None or data.gap is None or _blind(facts) or put_right(facts):
            return
        gap = data.gap
        if not large(gap):
            return
        paths = tuple(norm.path for norm in live(facts))
        accuracy = ""
        if gap.accuracy is not None:
            accuracy = f", accuracy {gap.accuracy[0]:.3f} and {gap.accuracy[1]:.3f}"
        yield Violation(
            layers=paths,
            message=(
                f"The same {gap.rows} rows have a loss of {gap.training:.4g} with live BN by the "
                f"batch and {gap.inference:.4g} with their moving statistics{accuracy}: "
                f"{some(paths)}. Limit {MAX_RATIO:g} x and {MIN_GAP:g} more; the difference is "
                f"known to +-{gap.standard_error:.2g}. {stack_of(facts)} predicts by the latter."
            ),
            fix=(
                "recompute the statistics over training data:\n"
                + indent("bng.recalibrate(model, x_train)")
            ),
            evidence={
                "training": gap.training,
                "inference": gap.inference,
                "standard_error": gap.standard_error,
                "accuracy": gap.accuracy,
                "limits": (MAX_RATIO, MIN_GAP, MIN_ERRORS, MIN_ACCURACY),
            },
        )

    def skip_reason(self, facts: Facts) -> Optional[str]:
        data = facts.data
        if data is None:
            return None
        if data.gap is None:
            return why_missing(facts, DataPart.GAP) or "measured when training is over"
        return _blind(facts)


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


def _blind(facts: Facts) -> Optional[str]:
    data, norms = facts.data, live(facts)
    if data is None or data.gap is None:
        return None
    if not norms:
        return "no BN is live"
    if data.gap.values < MIN_VALUES:
        return f"a batch has {data.gap.values:g} values per channel only, too few to compare with"
    if data.moment == "audit" and any(norm.at_default for norm in norms):
        return "the model has not trained"
    return None
