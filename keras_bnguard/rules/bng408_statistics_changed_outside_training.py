"""BNG408: calls with `training=True` after `fit` changed the moving statistics."""

from __future__ import annotations

from typing import Iterable, Optional

from keras_bnguard.records import Inventory, RunFacts, Severity, Trigger
from keras_bnguard.rules.base import ON_SNAPSHOT, Rule, Violation
from keras_bnguard.rules.text import count, some

MIN_CHANGE = 0.1
"""A BN whose mean shift and log variance ratio stay below it is not reported."""


class StatisticsChangedOutsideTraining(Rule):
    """Calls with `training=True` between two trainings changed the moving statistics.

    What it checks:
        Where warnings are automatic (`bnguard run`, `enable_warnings`): calls of a model with
        `training=True` from the end of its `fit` to the next training, or to the end of the
        script.

    Why it matters:
        `predict`, `evaluate` and a saved file use the changed statistics. Thirty stochastic
        passes over other rows took a model from 0.95 to 0.50 accuracy.

    How it decides:
        Moving statistics and weights are compared bit for bit from right before the first such
        call to the next training or the end. The statistics changed, and the weights did not. At
        least one BN has a mean shift of 0.1 standard deviations or more, or a log variance ratio
        of 0.1 or more, on average over its channels.

    Example:
        model.fit(x, y)
        draws = [model(new, training=True) for _ in range(30)]      # Monte-Carlo dropout

    Fix:
        Keep BN in inference mode in these calls; Dropout stays random.

    Known limits:
        Not certain: statistics may be updated on purpose, by forward passes over new data
        (`bng.recalibrate` does it exactly, and is not reported). Silent where weights are loaded
        or an optimizer takes a step in between, where the statistics are put back, for calls
        inside `tf.function` or `jit`, and for models that `fit` did not train.

    Source:
        Measured on all five stacks; keras issue 9412.
    """

    code = "BNG408"
    name = "statistics-changed-outside-training"
    severity = Severity.WARNING
    certain = False
    evaluated_at = ON_SNAPSHOT | {Trigger.OUTSIDE}

    def check(self, inventory: Inventory, run: Optional[RunFacts] = None) -> Iterable[Violation]:
        outside = None if run is None else run.outside
        if outside is None or max(outside.changes.values(), default=0.0) < MIN_CHANGE:
            return
        paths = tuple(outside.changes)
        model = inventory.user_code.model
        yield Violation(
            layers=paths,
            message=(
                f"{count(outside.calls, 'call')} with training=True outside training changed "
                f"{count(len(paths), 'BN layer')}: {some(paths)}. The largest change is "
                f"{max(outside.changes.values()):.2g} (mean shift in standard deviations, or log "
                "variance ratio). predict, evaluate and saved files use the new statistics."
            ),
            fix=(
                "keep BN in inference mode in these calls after fit; Dropout stays random:\n"
                "    import keras_bnguard as bng\n"
                f"    with bng.force_inference({model}, layers='*'):\n"
                f"        outputs = {model}(x, training=True)"
            ),
            evidence={"calls": outside.calls, "changes": dict(outside.changes)},
            source=outside.source,
        )
