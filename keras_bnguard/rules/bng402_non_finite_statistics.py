"""BNG402: NaN or Inf in a BN vector."""

from __future__ import annotations

from typing import Iterable

from keras_bnguard.records import Inventory, RunFacts, Severity
from keras_bnguard.rules.base import ON_CHANGE, Rule, Violation
from keras_bnguard.rules.text import count, recalibrate_code, some


class NonFiniteStatistics(Rule):
    """A BN vector holds NaN or Inf.

    What it checks:
        Moving mean, moving variance, gamma and beta of every BN, at the start of training
        and at every check.

    Why it matters:
        In training BN uses the batch, so the loss can seem fine while the moving statistics
        are NaN. The first `evaluate` or `predict` is NaN then. The average never recovers:
        momentum * NaN stays NaN.

    How it decides:
        At least one value in a vector is not finite. No threshold. Certain.

    Example:
        bn(np.zeros((0, 8)), training=True)      # an empty batch writes NaN to both statistics

    Fix:
        Keep empty and one-row batches away from BN, load the last good weights, and
        recompute the statistics.

    Known limits:
        It names the vectors, not the batch that did it. What a callback puts back after the check
        is not seen.

    Source:
        Measured with empty batches on Keras 2.15, tf_keras 2.21 and Keras 3.15.1; tensorflow
        issues 34062 and 46205, keras issues 11858 and 17204.
    """

    code = "BNG402"
    name = "non-finite-statistics"
    severity = Severity.ERROR
    evaluated_at = ON_CHANGE
    consequence_of = ("BNG501", "BNG502", "BNG503", "BNG304", "BNG403", "BNG606")

    def check(self, inventory: Inventory, run: RunFacts) -> Iterable[Violation]:
        violation = [
            statistics_change
            for statistics_change in run.statistics_changes
            if statistics_change.nonfinite
        ]
        if not violation:
            return
        paths = tuple(statistics_change.path for statistics_change in violation)
        vectors = tuple(f"{m.path} ({', '.join(m.nonfinite)})" for m in violation)
        affine = any(v in ("gamma", "beta") for m in violation for v in m.nonfinite)
        yield Violation(
            layers=paths,
            message=(
                f"NaN or Inf in {count(len(violation), 'BN layer')} after "
                f"{count(run.steps, 'step')}: {some(vectors)}. With {inventory.stack} no "
                "step makes these values finite again, only an assignment does; until then "
                "predict gives NaN."
            ),
            fix=(
                "look for NaN in the batches (np.isfinite(x).all()), leave out empty and one-row "
                "ones (drop_remainder=True), then load the last weights that were finite"
                + (
                    ""
                    if affine
                    else f"; or recompute the statistics:\n{recalibrate_code(inventory)}"
                )
            ),
            evidence={
                "vectors": {m.path: m.nonfinite for m in violation},
                "steps": run.steps,
            },
        )
