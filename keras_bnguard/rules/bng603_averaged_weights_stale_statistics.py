"""BNG603: averages of the weights are used with moving statistics of other weights."""

from __future__ import annotations

from typing import Iterable, Optional, Tuple

from keras_bnguard.records import (
    Averaging,
    ExpectedMode,
    Inventory,
    RunFacts,
    Severity,
    SkipKind,
    SkipReason,
    UserCode,
)
from keras_bnguard.rules.base import AT_THE_END, Rule, Violation
from keras_bnguard.rules.text import bng_code, count, some
from keras_bnguard.rules.thresholds import MIN_DISTANCE


class AveragedWeightsStaleStatistics(Rule):
    """Averaged weights with the moving statistics of the weights before averaging.

    What it checks:
        Whether the optimizer keeps an average of the weights (`use_ema=True`, `SWA` and
        `MovingAverage` of TensorFlow Addons), and BN trained while it did.

    Why it matters:
        Averages cover what the optimizer trains, and moving statistics are not among it. An
        average that is far from the last weights makes other activations, which BN then
        normalises with statistics of the old ones: on scikit-learn's digits 0.13 accuracy
        where new statistics gave 0.95.

    How it decides:
        Training has ended, the optimizer took steps, and a BN that was meant to train moved.
        The distance norm(average - weights) / norm(weights) at the last epoch end is at least
        0.05, or was not seen. Measured on digits with three convolutions, BN momentum 0.9, Adam
        at three learning rates with `ema_momentum` 0.9 to 0.999 and SGD at two with 0.9 and
        0.99: the statistics are off by about that distance, in standard deviations. Up to 0.04
        apart, new ones changed accuracy by less than 0.01; at 0.065 they began to matter (0.961
        to 0.972), at 0.3 they made 0.52 into 0.96 on JAX and 0.88 into 0.97 on torch
        (`benchmarks/averaged_weights.py`).

    Example:
        model.compile(keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.999), "mse")
        model.fit(x, y, epochs=2)                # the weights are averages now

    Fix:
        `callbacks=[bng.Recalibrate(x)]` in `fit`, or `bng.recalibrate(model, x)` after it.

    Known limits:
        Not certain. Silent where a `Recalibrate` callback takes care of it, where the distance
        is small, where `EarlyStopping` puts the weights of the best epoch back, and in custom
        training loops. It cannot know of a `recalibrate` that comes after `fit`: leave it out
        with `ignore="BNG603"` where you do that. The distance shows that statistics are stale, not
        how much accuracy that costs, and new statistics do not make a poor average good.

    Source:
        Izmailov et al. 2018 (arXiv:1803.05407), section 3.2; tensorflow/addons issue 816.
    """

    code = "BNG603"
    name = "averaged-weights-stale-statistics"
    severity = Severity.WARNING
    certain = False
    evaluated_at = AT_THE_END

    def check(self, run: RunFacts, inventory: Optional[Inventory] = None) -> Iterable[Violation]:
        averaging = run.averaging
        if averaging is None or not run.ended or run.steps < 1:
            return
        if averaging.recalibrated or averaging.restored:
            return
        if averaging.distance is not None and averaging.distance < MIN_DISTANCE:
            return
        trained = tuple(
            m.path
            for m in run.statistics_changes
            if m.expected is ExpectedMode.TRAINING and m.changed
        )
        if not trained:
            return
        yield Violation(
            layers=trained,
            message=_message(averaging, trained),
            fix=_fix(averaging, UserCode() if inventory is None else inventory.user_code),
            evidence={
                "keeper": averaging.keeper,
                "distance": averaging.distance,
                "swapped_by": averaging.swapped_by,
            },
        )

    def skip_reason(self, run: RunFacts) -> Optional[SkipReason]:
        if not run.ended:
            return SkipReason(
                SkipKind.TOO_EARLY, "it is not known before fit ends what becomes of the averages"
            )
        return None


def _message(averaging: Averaging, trained: Tuple[str, ...]) -> str:
    away = "" if averaging.distance is None else f", {100 * averaging.distance:.1f} % away from"
    if averaging.assigned:
        where = f"{averaging.keeper} left averages in the weights{away}"
        where += " those of the last step" if away else ""
    else:
        where = f"{averaging.keeper} keeps averages{away}"
        where += " the weights" if away else ""
        where += ", to be assigned by you or AverageModelCheckpoint"
    return (
        f"{where}. The moving statistics of {count(len(trained), 'BN')} ({some(trained)}) "
        "belong to the weights before averaging."
    )


def _fix(averaging: Averaging, code: UserCode) -> str:
    recompute = f"bng.recalibrate({code.model}, {code.x})"
    if averaging.assigned:
        return (
            f"take the statistics of the averaged weights, after {code.place} (or by "
            f"bng.Recalibrate among the callbacks of fit):\n{bng_code(recompute)}"
        )
    assign = f"{code.model}.optimizer.assign_average_vars({code.model}.trainable_variables)"
    return (
        "assign the averages, then take their statistics, "
        f"after {code.place}:\n{bng_code(assign, recompute)}\n"
        'or let fit do it: callbacks=[bng.Recalibrate(x, assign_averages=True, at="swaps")]'
    )
