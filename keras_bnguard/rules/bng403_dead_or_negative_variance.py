"""BNG403: a channel's moving variance is negative, or nearly zero beside its siblings."""

from __future__ import annotations

import math
from typing import Iterable, Optional

from keras_bnguard.records import Inventory, RunFacts, Severity, StatisticsChange
from keras_bnguard.rules.base import ON_CHANGE, Rule, Violation
from keras_bnguard.rules.predicates import norms_of
from keras_bnguard.rules.text import before_line, count, recalibrate_code, some

_DEFAULT_EPSILON = 1e-3


class DeadOrNegativeVariance(Rule):
    """A channel's moving variance is negative, or a millionth of its siblings'.

    What it checks:
        The moving variance of every channel, at the start of training and at every check.

    Why it matters:
        In inference BN multiplies a channel by gamma / sqrt(variance + epsilon). As the
        variance goes to 0 that gain goes to 1 / sqrt(epsilon), 31.6 at the default epsilon:
        the smallest input there blows up. Below -epsilon the output is NaN.

    How it decides:
        negative: variance < 0.
        dead: variance < 1e-6 * median of the layer's variances, while gamma is not 0.
        Variances are in squared units of the layer's input.

    Example:
        bn(np.ones((1, 8)), training=True)       # again and again: one row has variance 0

    Fix:
        Recompute the statistics over data, or set gamma and beta of the channel to 0.

    Known limits:
        Not certain: a channel that carries nothing on your data is harmless while its input
        stays constant. Silent for pruned channels, whose gamma is 0 as well, and for channels
        that are plainly empty.

    Source:
        Measured on Keras 2.15 and Keras 3.15.1 with one-row batches; keras issue 8794.
    """

    code = "BNG403"
    name = "dead-or-negative-variance"
    severity = Severity.WARNING
    certain = False
    evaluated_at = ON_CHANGE

    def check(self, inventory: Inventory, run: RunFacts) -> Iterable[Violation]:
        violation = [
            m for m in run.statistics_changes if m.negative_channels > 0 or m.dead_channels > 0
        ]
        if not violation:
            return
        norms = norms_of(inventory)
        epsilons = {m.path: norms[m.path].epsilon if m.path in norms else None for m in violation}
        paths = tuple(statistics_change.path for statistics_change in violation)
        numbers = [
            _numbers(statistics_change, epsilons[statistics_change.path])
            for statistics_change in violation
        ]
        dead = [norms[path] for path in paths if path in norms]
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'BN layer')} with channels of negative or vanishing "
                f"variance: {'; '.join(numbers[:3])}{' ...' if len(numbers) > 3 else ''}. "
                f"{inventory.stack} multiplies such a channel by that gain in predict."
            ),
            fix=(
                "recompute the statistics over data of yours, with batches of 16 or more, "
                f"{before_line(inventory)}:\n{recalibrate_code(inventory, dead)}\n"
                f"or set gamma and beta of the channels to 0 ({some(paths)})"
            ),
            evidence={
                m.path: {
                    "negative_channels": m.negative_channels,
                    "dead_channels": m.dead_channels,
                    "min_variance": m.min_variance,
                    "median_variance": m.median_variance,
                }
                for m in violation
            },
        )


def _numbers(statistics_change: StatisticsChange, epsilon: Optional[float]) -> str:
    under_root = statistics_change.min_variance + (_DEFAULT_EPSILON if epsilon is None else epsilon)
    gain = f"gain {1 / math.sqrt(under_root):.3g}" if under_root > 0 else "gain NaN"
    return (
        f"{statistics_change.path} ({statistics_change.negative_channels} negative, "
        f"{statistics_change.dead_channels} dead; smallest variance "
        f"{statistics_change.min_variance:.3g}, median {statistics_change.median_variance:.3g}, "
        f"{gain})"
    )
