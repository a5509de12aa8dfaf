"""BNG305: batch renormalisation keeps more statistics than BN."""

from __future__ import annotations

from typing import Iterable

from keras_bnguard.records import Inventory, Severity
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.text import count, some


class Renorm(Rule):
    """`renorm=True` keeps three more vectors, which move with the other two.

    What it checks:
        The `renorm` setting.

    Why it matters:
        Batch renormalisation corrects each batch towards running values of its own:
        `renorm_mean`, `renorm_stddev` and `moving_stddev`. Code that copies, averages or
        recalibrates BN by its mean and variance alone leaves them behind, and the drift
        measures of the report do not see them.

    How it decides:
        The flag of the layer. A fact.

    Example:
        keras.layers.BatchNormalization(renorm=True)

    Fix:
        Freeze the layer as a whole; copy all of its weights with `get_weights`.

    Known limits:
        Keras 3 has had the setting since 3.14; Keras 2 always had it.

    Source:
        Weights listed on Keras 2.15, tf_keras 2.21 and Keras 3.15.1; arXiv 1702.03275; keras
        pull request 22047.
    """

    code = "BNG305"
    name = "renorm"
    severity = Severity.INFO

    def check(self, inventory: Inventory) -> Iterable[Violation]:
        paths = tuple(norm.path for norm in inventory.norms if norm.renorm)
        if not paths:
            return
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(paths), 'BN layer')} with renorm=True: {some(paths)}. "
                f"{inventory.stack} keeps renorm_mean, renorm_stddev and moving_stddev there, "
                "besides mean and variance."
            ),
            fix=(
                "copy and restore all weights of such a layer, by get_weights and set_weights, "
                "not two of them"
            ),
            evidence={"layers": len(paths)},
        )
