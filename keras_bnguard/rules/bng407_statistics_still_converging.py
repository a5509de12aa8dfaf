"""BNG407: training ended while the moving statistics were still on their way."""

from __future__ import annotations

import math
from typing import Any, Iterable, Mapping, Optional

from keras_bnguard.records import Inventory, RunFacts, Severity, SkipKind, SkipReason
from keras_bnguard.rules.base import AT_THE_END, Rule, Violation
from keras_bnguard.rules.bng301_momentum_too_slow_for_run import learning_biases, start_does_harm
from keras_bnguard.rules.predicates import recalibrates
from keras_bnguard.rules.text import after_line, count, recalibrate_code, some
from keras_bnguard.rules.thresholds import MIN_STEPS

MAX_SHIFT = 0.5
MAX_LOG_VARIANCE = 0.7


class StatisticsStillConverging(Rule):
    """Training ended while the moving statistics were still far behind the batches.

    What it checks:
        Trainable BN at the end of training, against the check before the last one.

    Why it matters:
        Moving statistics follow the batches with a delay of 1 / (1 - momentum) steps. Where
        they still change at the end, `predict` uses values that the weights have left
        behind; validation is worse than training on the very same rows.

    How it decides:
        In the s steps between the last two checks they changed by d. A moving average that nears
        a fixed value then has d q / (1 - q) still to go, q = momentum ** s. Median over
        channels above 0.5 standard deviations, or above 0.7 in log variance.

    Example:
        model.fit(x, y, epochs=10)               # 4 steps per epoch, momentum 0.99

    Fix:
        Recompute the statistics after training, train longer, or lower the momentum.

    Known limits:
        Silent where `bng.Recalibrate` is a callback of the same `fit`.
        Not certain: what is still to go is extrapolated. Silent for BN that BNG301 names, for
        frozen BN, in custom training loops, in runs of fewer than 10 steps, and after a single
        epoch that is long enough. Under `bnguard run` the last `fit` of a model decides.

    Source:
        keras issues 3949 and 6977; see BNG301.
    """

    code = "BNG407"
    name = "statistics-still-converging"
    severity = Severity.WARNING
    certain = False
    evaluated_at = AT_THE_END
    over_all_fits = True
    consequence_of = ("BNG301", "BNG406")

    def check(
        self, inventory: Inventory, run: RunFacts, fit_settings: Optional[Mapping[str, Any]] = None
    ) -> Iterable[Violation]:
        late = [
            (norm, ema_bias)
            for norm, ema_bias in learning_biases(inventory, run)
            if not start_does_harm(ema_bias)
        ]
        late = [
            (norm, ema_bias)
            for norm, ema_bias in late
            if math.isfinite(ema_bias.shift)
            and math.isfinite(ema_bias.log_variance)
            and (ema_bias.shift > MAX_SHIFT or ema_bias.log_variance > MAX_LOG_VARIANCE)
        ]
        if not late or run.steps < MIN_STEPS or recalibrates(fit_settings):
            return
        paths = tuple(norm.path for norm, _ in late)
        steps = late[0][1].steps
        yield Violation(
            layers=paths,
            message=(
                f"The moving statistics of {count(len(late), 'trainable BN layer')} were still on "
                f"their way when training ended: {some(paths)}. After the last "
                f"{count(steps, 'step')} they have up to "
                f"{max(ema_bias.shift for _, ema_bias in late):.2g} standard deviations (limit "
                f"{MAX_SHIFT:g}) and {max(ema_bias.log_variance for _, ema_bias in late):.2g} in "
                f"log variance (limit {MAX_LOG_VARIANCE:g}) to go; {inventory.stack} uses them in "
                "predict. Longer training cures it too."
            ),
            fix=(
                f"recompute the statistics with the final weights, {after_line(inventory)} (or by "
                "bng.Recalibrate among the callbacks of fit):\n" + recalibrate_code(inventory)
            ),
            evidence={
                "mean_shift_to_go": {norm.path: ema_bias.shift for norm, ema_bias in late},
                "log_variance_to_go": {norm.path: ema_bias.log_variance for norm, ema_bias in late},
                "steps": steps,
                "limits": (MAX_SHIFT, MAX_LOG_VARIANCE),
            },
        )

    def skip_reason(self, run: RunFacts) -> Optional[SkipReason]:
        if run.ema_biases is None:
            return SkipReason(SkipKind.TOO_EARLY, "training is not over")
        return None
