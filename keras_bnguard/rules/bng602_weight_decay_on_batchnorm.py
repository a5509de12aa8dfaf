"""BNG602: decoupled weight decay pulls gamma and beta of trainable BN towards zero."""

from __future__ import annotations

from typing import Iterable

from keras_bnguard.records import Inventory, OptimizerFacts, Severity
from keras_bnguard.rules.base import ExpensiveFact, Rule, Violation
from keras_bnguard.rules.text import count, some


class WeightDecayOnBatchnorm(Rule):
    """Weight decay of the optimizer reaches gamma or beta of BN that trains.

    What it checks:
        `weight_decay` of the optimizer, and the variables excluded from it.

    Why it matters:
        Decoupled decay shrinks every variable at every step. Kernels in front of a BN may be
        shrunk, for BN undoes their scale; its own gamma cannot be, so features fade.

    How it decides:
        The optimizer is asked for each gamma and beta that trains whether it decays. A fact.

    Example:
        keras.optimizers.AdamW(1e-3, weight_decay=0.05)

    Fix:
        Exclude gamma and beta before the optimizer is built.

    Known limits:
        Silent for frozen BN, and for optimizers of other packages that keep the setting
        elsewhere. Many good recipes decay everything.

    Source:
        One epoch at learning rate 0.01 and decay 5: mean gamma 0.63 instead of 0.80; keras
        issue 16201, addons pull request 2624.
    """

    code = "BNG602"
    name = "weight-decay-on-batchnorm"
    severity = Severity.INFO
    wants = frozenset({ExpensiveFact.WEIGHT_DECAY})

    def check(self, inventory: Inventory, optimizer: OptimizerFacts) -> Iterable[Violation]:
        if not optimizer.weight_decay:
            return
        reached = set(optimizer.decayed or ())
        paths = tuple(n.path for n in inventory.norms if n.path in reached and not n.frozen)
        if not paths:
            return
        yield Violation(
            layers=paths,
            message=(
                f"{optimizer.class_name} decays gamma or beta of {count(len(paths), 'BN layer')} "
                f"by {optimizer.weight_decay:g} times the learning rate a step: {some(paths)}. "
                f"{inventory.stack} excludes none of them by itself."
            ),
            fix=(
                "exclude them after compile and before the first step, by the optimizer's "
                'exclude_from_weight_decay(var_names=["gamma", "beta"]) where it has this method'
            ),
            evidence={
                "weight_decay": optimizer.weight_decay,
                "learning_rate": optimizer.learning_rate,
            },
        )
