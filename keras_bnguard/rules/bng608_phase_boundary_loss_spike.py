"""BNG608: the loss jumped when the next phase began."""

from __future__ import annotations

import math
from typing import Iterable, Optional, Tuple

from keras_bnguard.records import Inventory, OptimizerFacts, PastRun, RunFacts, Severity, SkipReason
from keras_bnguard.rules.base import AT_EVERY_CHECK, Rule, Violation
from keras_bnguard.rules.predicates import nothing_before, step_is_in_doubt
from keras_bnguard.rules.text import count, some

RATIO = 2.0
SHARE = 0.5
FLOOR = 1e-3


class PhaseBoundaryLossSpike(Rule):
    """The loss of the first epoch is far above that of the last one of the phase before.

    What it checks:
        The logged loss on both sides of a boundary at which the set of training layers changed,
        without what regularisers add to it.

    Why it matters:
        Unfreezing should go on from where the head was. A jump shows that the first steps broke
        something: a learning rate that is too high, BN that switched to batch statistics, or an
        optimizer whose state was lost. The weights may never find back to what they had learnt.

    How it decides:
        loss after > 2.0 x loss before, and the jump is more than half of what the phase before
        had gained, and above 0.001. Regularisation terms are taken off on both sides: Keras 3
        counts only those of weights that train, so unfreezing adds some. The loss function must
        be the same, and the losses positive.

    Example:
        model.fit(x, y, epochs=5)                # ends at 0.21
        backbone.trainable = True
        model.compile(keras.optimizers.Adam(1e-2), "mse")
        model.fit(x, y, epochs=5)                # begins at 1.94

    Fix:
        Go back to the weights before the boundary, then unfreeze with a lower learning rate,
        with a warm-up, and with BN in inference mode.

    Known limits:
        Not certain: other data, sample weights or augmentation in the second phase raise the
        loss as well. Silent where training layers stay the same, and where a custom step logs
        no loss.

    Source:
        keras issues 6164, 3704 and 11699; what counts as a loss term was measured on Keras
        2.15, tf_keras 2.21 and Keras 3.15.1.
    """

    code = "BNG608"
    name = "phase-boundary-loss-spike"
    severity = Severity.WARNING
    certain = False
    evaluated_at = AT_EVERY_CHECK
    consequence_of = ("BNG606", "BNG104")

    def check(
        self, inventory: Inventory, run: RunFacts, optimizer: Optional[OptimizerFacts] = None
    ) -> Iterable[Violation]:
        if run.before is None:
            return
        if step_is_in_doubt(run, optimizer):
            return
        losses = _losses(run, run.before)
        if losses is None or not _is_spike(*losses):
            return
        changed = _changed(inventory, run.before.inventory)
        if not changed:
            return
        first, before, after = losses
        old, new = run.before.regularisation
        terms = (
            f" Regularisation left out: {old:.3g} before, {new:.3g} after." if old or new else ""
        )
        yield Violation(
            layers=changed,
            message=(
                f"Loss {before:.4g} in the last epoch before {count(len(changed), 'layer')} "
                f"changed between frozen and training ({some(changed)}), {after:.4g} in the first "
                f"epoch after, {after / before:.3g} times as much (limit {RATIO:g}).{terms} "
                f"{inventory.stack} goes on from the weights this left behind."
            ),
            fix=(
                "load the weights from before the boundary, then unfreeze with a lower learning "
                "rate and a warm-up, with BN in inference mode, as PhaseScheduler.fine_tune does "
                "(base_lr=, warmup=)"
            ),
            evidence={
                "first": first,
                "before": before,
                "after": after,
                "regularisation": run.before.regularisation,
                "limit": RATIO,
            },
        )

    def skip_reason(self, run: RunFacts) -> Optional[SkipReason]:
        return nothing_before(run)


def _losses(run: RunFacts, before: PastRun) -> Optional[Tuple[float, float, float]]:
    """(first epoch before, last epoch before, first epoch after), regularisation taken off."""
    if len(run.losses) != 1 or before.loss is None or before.first_loss is None:
        return None
    if run.loss_function != before.loss_function:
        return None
    old, new = before.regularisation
    losses = (before.first_loss - old, before.loss - old, run.losses[0] - new)
    return losses if all(math.isfinite(loss) and loss > 0 for loss in losses) else None


def _is_spike(first: float, before: float, after: float) -> bool:
    jump = after - before
    return after > RATIO * before and jump > SHARE * (first - before) and jump > FLOOR


def _changed(inventory: Inventory, before: Inventory) -> Tuple[str, ...]:
    was = {layer.path: layer.trainable for layer in before.layers}
    return tuple(
        layer.path
        for layer in inventory.layers
        if layer.weighted and was.get(layer.path, layer.trainable) != layer.trainable
    )
