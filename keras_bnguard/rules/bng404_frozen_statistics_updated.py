"""BNG404: the statistics of a frozen BN changed."""

from __future__ import annotations

import math
from typing import Iterable, Optional

from keras_bnguard.records import (
    ExpectedMode,
    Inventory,
    NormKind,
    RunFacts,
    RunMode,
    Severity,
    SkipReason,
    StatisticsChange,
)
from keras_bnguard.rules.base import ON_CHANGE, Rule, Violation
from keras_bnguard.rules.predicates import no_step_yet, norms_of, sites_of
from keras_bnguard.rules.text import before_line, count, force_code, some


class FrozenStatisticsUpdated(Rule):
    """The moving statistics of a BN in inference mode changed during training.

    What it checks:
        Every BN that is meant to run in inference mode: by a flag, forced by this
        package, or because all its calls have `training=False`.

    Why it matters:
        Pretrained statistics are what the layers after the BN were trained on. Once they are
        overwritten, no smaller learning rate and no more epochs bring them back.

    How it decides:
        steps >= 1, and moving mean or variance differs from its value at the start of training
        in at least one bit (NaN counts as changed). No threshold. The size is in standard
        deviations: |mean_t - mean_0| / sqrt(variance_0 + epsilon), the largest channel.

    Example:
        x = backbone(inputs, training=False)     # and this Keras overrides it in fit

    Fix:
        Force the BN into inference mode, or follow the finding that names the cause (BNG101,
        BNG102, BNG105, BNG201).

    Known limits:
        Silent where an observed step ran the BN in inference mode, or did not run it at all:
        your own code assigned its statistics then (a mean teacher, a restored checkpoint).
        Not certain where no step could be watched.

    Source:
        Follows from what frozen means since Keras 2.4: inference mode, statistics untouched.
    """

    code = "BNG404"
    name = "frozen-statistics-updated"
    severity = Severity.ERROR
    certain = False
    evaluated_at = ON_CHANGE
    consequence_of = ("BNG201", "BNG102", "BNG105", "BNG204", "BNG101")

    def check(self, inventory: Inventory, run: RunFacts) -> Iterable[Violation]:
        if run.steps < 1:
            return
        violation = [
            m
            for m in run.statistics_changes
            if _changed(m)
            and m.path not in run.trained_elsewhere
            and not _not_called(m, inventory, run)
        ]
        if not violation:
            return
        paths = tuple(statistics_change.path for statistics_change in violation)
        whys = tuple(
            dict.fromkeys(
                statistics_change.why for statistics_change in violation if statistics_change.why
            )
        )
        shifts = {
            statistics_change.path: statistics_change.max_mean_shift
            for statistics_change in violation
        }
        finite = [shift for shift in shifts.values() if math.isfinite(shift)]
        size = f"by up to {max(finite):.3g} standard deviations" if finite else "to NaN or Inf"
        because = f" Frozen because: {some(whys)}." if whys else ""
        yield Violation(
            layers=paths,
            message=(
                f"moving statistics of {count(len(violation), 'frozen BN layer')} changed: "
                f"{some(paths)}, {size} in {count(run.steps, 'step')} with "
                f"{inventory.stack}.{because}"
            ),
            fix=(
                f"load the pretrained statistics and force inference mode, {before_line(inventory)}"
                f":\n{force_code(inventory)}"
            ),
            evidence={"max_mean_shift": shifts, "why": whys, "steps": run.steps},
        )

    def skip_reason(self, run: RunFacts) -> Optional[SkipReason]:
        return no_step_yet(run)


def _changed(statistics_change: StatisticsChange) -> bool:
    return (
        statistics_change.expected is ExpectedMode.INFERENCE
        and statistics_change.changed
        and statistics_change.ran is not RunMode.INFERENCE
    )


def _not_called(statistics_change: StatisticsChange, inventory: Inventory, run: RunFacts) -> bool:
    """The watched step did not run this BN, so something else wrote its statistics."""
    norm = norms_of(inventory).get(statistics_change.path)
    if not run.called or norm is None or norm.kind is not NormKind.KERAS:
        return False
    return not sites_of(run, norm)
