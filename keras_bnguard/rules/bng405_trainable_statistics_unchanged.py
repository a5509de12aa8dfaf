"""BNG405: the statistics of a trainable BN did not change, and the cause is not known."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Optional

from keras_bnguard.records import Inventory, PastRun, RunFacts, RunMode, Severity, SkipReason
from keras_bnguard.rules.base import ON_CHANGE, Rule, Violation
from keras_bnguard.rules.predicates import no_step_yet, norms_of, unexplained_unchanged
from keras_bnguard.rules.text import count, some

FLOAT32_STEP = 2.0**-24
"""Half the distance of 1 to the next float32."""


class TrainableStatisticsUnchanged(Rule):
    """A trainable BN is bit-identical after training steps, for a cause that is not known.

    What it checks:
        BN that are meant to train, after at least one training step.

    Why it matters:
        The statistics that `predict` uses are not those of your data. Either BN does not run
        in training mode, or something puts the old values back.

    How it decides:
        steps >= 1; momentum is known and below 1; moving mean and variance equal their values
        at the start of training, bit for bit; and no other rule knows why (BNG203, BNG205, BNG206).

    Example:
        a callback that restores the weights of the first epoch at every epoch's end

    Fix:
        Look for code that writes weights back, then compare one step by hand.

    Known limits:
        Not certain: a batch whose moments equal the stored statistics in every bit changes
        nothing. Silent for epochs of one batch where an earlier `fit` took so many steps that
        such a batch, always the same, is known in every bit; for momentum 1.0, where every
        call passes `training=False`, for BN that the observed step did not run, and for
        layers of which only variables can be seen.

    Source:
        moving = momentum * moving + (1 - momentum) * batch, `call` of Keras's
        BatchNormalization.
    """

    code = "BNG405"
    name = "trainable-statistics-unchanged"
    severity = Severity.ERROR
    certain = False
    evaluated_at = ON_CHANGE
    consequence_of = ("BNG203", "BNG205", "BNG607", "BNG101")
    needs_calls = True

    def check(
        self, inventory: Inventory, run: RunFacts, fit_settings: Optional[Mapping[str, Any]] = None
    ) -> Iterable[Violation]:
        norms = norms_of(inventory)
        violation = [
            statistics_change
            for statistics_change in unexplained_unchanged(inventory, run)
            if statistics_change.ran is not RunMode.INFERENCE
            and (momentum := norms[statistics_change.path].momentum) is not None
            and not _converged_to_its_only_batch(run.before, fit_settings, momentum)
        ]
        if not violation:
            return
        paths = tuple(statistics_change.path for statistics_change in violation)
        ran = [m.path for m in violation if m.ran is RunMode.TRAINING]
        if len(ran) == len(violation):
            seen = "they ran in training mode, so something puts the old values back"
        else:
            seen = "cause unknown"
        momenta = sorted({norms[path].momentum or 0.0 for path in paths})
        yield Violation(
            layers=paths,
            message=(
                f"mean and variance bit-identical after {count(run.steps, 'step')} in "
                f"{count(len(violation), 'trainable BN layer')}: {some(paths)} (momentum "
                f"{', '.join(f'{m:g}' for m in momenta[:3])}). With {inventory.stack} one step in "
                f"training mode changes them; {seen}."
            ),
            fix=(
                "look for code that writes weights back (set_weights, load_weights, swapped "
                "averages), and take it out or let it leave the moving statistics as they are"
            ),
            evidence={"steps": run.steps, "ran_in_training": tuple(ran)},
        )

    def skip_reason(self, run: RunFacts) -> Optional[SkipReason]:
        return no_step_yet(run)


def _converged_to_its_only_batch(
    before: Optional[PastRun], fit_settings: Optional[Mapping[str, Any]], momentum: float
) -> bool:
    """Epochs of one batch, as when a net is to overfit it, after a `fit` of very many: less of
    what was there before is left than float32 can distinguish."""
    one = (fit_settings or {}).get("steps") == 1
    return one and before is not None and momentum**before.steps < FLOAT32_STEP
