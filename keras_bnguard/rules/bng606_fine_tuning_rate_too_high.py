"""BNG606: pretrained layers were unfrozen at a learning rate made for a new head."""

from __future__ import annotations

import math
from typing import Iterable, List, Optional, Tuple

from keras_bnguard.records import (
    Inventory,
    LayerFlag,
    OptimizerFacts,
    PastRun,
    RunFacts,
    Severity,
    SkipReason,
)
from keras_bnguard.rules.base import AT_EVERY_CHECK, Rule, Violation
from keras_bnguard.rules.predicates import nothing_before, step_is_in_doubt
from keras_bnguard.rules.text import before_line, compile_again, count, indent, some

FACTOR = 10.0
MAX_ADAPTIVE = 1e-3
LOW_ADAPTIVE = 1e-5
LOW = 1e-4
_ROUNDING = 1e-6


class FineTuningRateTooHigh(Rule):
    """Pretrained layers were unfrozen at the learning rate of the head, or near it.

    What it checks:
        The learning rate of the first `fit` or phase in which pretrained layers train that
        were frozen before, against that while they were frozen.

    Why it matters:
        A new head needs large steps. The same steps move pretrained weights far within the
        first batches, and what they had learnt is lost before the loss shows it. The guides
        lower the learning rate by a factor of 10 to 100 when layers are unfrozen.

    How it decides:
        A layer with weights that was frozen in the phase before trains now, in a sub-model
        whose BN carry trained statistics. Then: learning rate > that of the head's phase /
        10, for the same optimizer class and above 1e-5 (1e-4 for SGD); or > 1e-3 with an
        optimizer of Adam's or RMSprop's family. Where a callback or a schedule sets the learning
        rate, it is read at the end of the first epoch, not at its start.

    Example:
        model.compile(keras.optimizers.Adam(1e-3), "mse")
        model.fit(x, y)                          # backbone frozen
        backbone.trainable = True
        model.compile(keras.optimizers.Adam(1e-3), "mse")
        model.fit(x, y)

    Fix:
        Compile with a learning rate at least 10 times lower, or give each `Phase` its own.

    Known limits:
        Not certain: some tasks bear more, and learning rates of different optimizers cannot be
        compared. Silent in training from scratch, where the fit before had no guard, and where
        BNG101 or BNG601 reports that the step is not built for these flags.

    Source:
        The transfer learning guide of Keras: Adam 1e-3 for the head, 1e-5 for all.
    """

    code = "BNG606"
    name = "fine-tuning-rate-too-high"
    severity = Severity.WARNING
    certain = False
    evaluated_at = AT_EVERY_CHECK

    def check(
        self, inventory: Inventory, run: RunFacts, optimizer: OptimizerFacts
    ) -> Iterable[Violation]:
        if run.before is None:
            return
        if optimizer.learning_rate is None or not _learning_rate_counts(optimizer, run.phase_steps):
            return
        if step_is_in_doubt(run, optimizer):
            return
        limit, why = _limit(optimizer, run.before)
        if limit is None or optimizer.learning_rate <= limit * (1 + _ROUNDING):
            return
        unfrozen = unfrozen_layers(inventory, run.before.inventory)
        if not unfrozen:
            return
        paths = tuple(layer.path for layer in unfrozen)
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(unfrozen), 'pretrained layer')} frozen before and unfrozen now: "
                f"{some(paths)}. {optimizer.class_name} trains them at "
                f"{optimizer.learning_rate:.3g}, above {limit:.3g} ({why}). {inventory.stack} "
                "takes the first steps with it."
            ),
            fix=(
                f"compile with a lower learning rate, {before_line(inventory)}:\n"
                + indent("\n".join(compile_again(inventory, _below(limit))))
            ),
            evidence={
                "learning_rate": optimizer.learning_rate,
                "head_learning_rate": run.before.head_learning_rate,
                "limit": limit,
            },
        )

    def skip_reason(self, run: RunFacts) -> Optional[SkipReason]:
        return nothing_before(run)


def unfrozen_layers(inventory: Inventory, before: Inventory) -> List[LayerFlag]:
    """Layers with weights, no BN, that were frozen and train now, beside trained BN."""
    pretrained = {norm.container for norm in before.norms if norm.pretrained}
    was = {layer.path: layer.trainable for layer in before.layers}
    return [
        layer
        for layer in inventory.layers
        if layer.weighted
        and not layer.is_norm
        and layer.trainable
        and was.get(layer.path) is False
        and layer.container in pretrained
    ]


def _learning_rate_counts(optimizer: OptimizerFacts, steps: int) -> bool:
    """Whether the learning rate that was read is that of the steps."""
    return steps > 0 or (
        optimizer.learning_rate_settled and not optimizer.learning_rate_is_schedule
    )


def _limit(optimizer: OptimizerFacts, before: PastRun) -> Tuple[Optional[float], str]:
    low = LOW_ADAPTIVE if optimizer.adaptive else LOW
    head = before.head_learning_rate
    if head is not None and before.head_optimizer == optimizer.class_name and head / FACTOR >= low:
        return head / FACTOR, f"a tenth of the {head:.3g} of the phase when they were frozen"
    if optimizer.adaptive:
        return MAX_ADAPTIVE, "the most such an optimizer should use there"
    return None, ""


def _below(limit: float) -> float:
    """The limit with one digit, rounded down."""
    size = 10.0 ** math.floor(math.log10(limit))
    return float(f"{math.floor(limit / size * (1 + 1e-9)) * size:.1g}")
