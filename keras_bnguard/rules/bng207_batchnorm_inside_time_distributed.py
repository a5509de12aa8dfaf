"""BNG207: a TimeDistributed layer runs BN once per time step, or twice."""

from __future__ import annotations

from typing import Iterable, List

from keras_bnguard.records import Inventory, NormLayer, Severity, TimeSteps
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.predicates import expects_inference
from keras_bnguard.rules.text import count, some


class BatchnormInsideTimeDistributed(Rule):
    """A TimeDistributed layer runs trainable BN once for every time step.

    What it checks:
        Trainable BN inside `TimeDistributed`, bare or in a model.

    Why it matters:
        Keras 3 calls what is inside once per time step: the statistics take one update for
        every step, each from the batch of one frame index alone, so momentum counts as its
        T-th power and the last frames weigh most. Keras 2 folds time into the batch and takes
        one update, or two where a functional or sequential model is inside.

    How it decides:
        The layer lies below a TimeDistributed layer; updates = time steps with Keras 3, 1 or 2
        with Keras 2. A fact, and often harmless.

    Example:
        video = keras.Input((16, 224, 224, 3))
        x = keras.layers.TimeDistributed(backbone)(video)

    Fix:
        Freeze what is inside, or put BN behind the TimeDistributed layer.

    Known limits:
        Silent for BN in inference mode.

    Source:
        Measured with five steps: mean 0.484 where one update gives 0.25 on Keras 3.15.1 (three
        backends), 0.25 bare and 0.375 in a model on Keras 2.15 and tf_keras 2.21; keras issue
        7466.
    """

    code = "BNG207"
    name = "batchnorm-inside-time-distributed"
    severity = Severity.INFO

    def check(self, inventory: Inventory) -> Iterable[Violation]:
        violation: List[NormLayer] = []
        updates: List[str] = []
        for norm in inventory.norms:
            steps = norm.graph_context.time_steps
            if steps is not None and not expects_inference(norm):
                violation.append(norm)
                updates.append(_updates(steps, inventory.stack.keras_major == 2))
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'trainable BN layer')} inside TimeDistributed: "
                f"{some(paths)}. {inventory.stack} updates their statistics "
                f"{some(tuple(dict.fromkeys(updates)))} in every training step."
            ),
            fix=(
                "freeze what is inside, or take the BN out of TimeDistributed, so that it "
                "normalizes all time steps at once"
            ),
            evidence={"updates": dict(zip(paths, updates))},
        )


def _updates(steps: TimeSteps, folds: bool) -> str:
    if folds:
        return "twice" if steps.graph else "once, over all frames"
    return "once per time step" if steps.steps is None else f"{steps.steps} times"
