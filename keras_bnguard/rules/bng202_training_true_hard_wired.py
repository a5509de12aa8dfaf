"""BNG202: the graph has `training=True`, and this Keras uses it in `predict` too."""

from __future__ import annotations

from typing import Iterable

from keras_bnguard.records import Inventory, Severity
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.text import count, line_of_call, some


class TrainingTrueHardWired(Rule):
    """A graph call has `training=True`, so BN uses batch statistics in `predict` as well.

    What it checks:
        Every call of a BN, or of a model around it, in a functional graph that was written
        with `training=True`.

    Why it matters:
        `predict` and `evaluate` then use batch statistics: a row alone gets another result than
        the same row among others. They also update the moving statistics.

    How it decides:
        The written argument is read from the graph's nodes. Whether it holds in `predict` is
        asked of the running Keras by a self-test: Keras 3.0 to 3.15.1 override it.

    Example:
        x = backbone(inputs, training=True)      # meant for the Dropout in it

    Fix:
        Remove the argument; for Monte-Carlo dropout give `training=True` to the Dropout
        layers only.

    Known limits:
        Certain as a fact, not as a fault: pix2pix-like generators want it; ignore the rule for
        them. Silent where only stochastic layers get `training=True`, for frozen BN, which
        stay in inference mode, and on a Keras that overrides the argument.

    Source:
        Measured on Keras 2.15, tf_keras 2.21 and Keras 3; tensorflow issues 29478 and 16455,
        keras-resnet pull request 47.
    """

    code = "BNG202"
    name = "training-true-hard-wired"
    severity = Severity.WARNING
    certain = False

    def check(self, inventory: Inventory) -> Iterable[Violation]:
        if not inventory.stack.behaviour.graph_true_at_inference:
            return
        violation = [
            norm
            for norm in inventory.norms
            if not norm.frozen and any(call.training is True for call in norm.calls)
        ]
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        owners = tuple(
            dict.fromkeys(c.owner for n in violation for c in n.calls if c.training is True)
        )
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'BN layer')} called with training=True at {some(owners)}: "
                f"{some(paths)}. {inventory.stack} uses it in predict and evaluate too: "
                "outputs depend on the batch, and the moving statistics are updated."
            ),
            fix=(
                "build the model again and leave training=True out of that call; for Monte-Carlo "
                "dropout, give it to the Dropout layers only"
            ),
            evidence={"calls": owners, "stack": str(inventory.stack)},
            source=line_of_call(violation, True),
        )
