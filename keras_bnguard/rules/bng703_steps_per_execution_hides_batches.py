"""BNG703: batch hooks run once per several batches."""

from __future__ import annotations

from typing import Iterable

from keras_bnguard.records import Inventory, Severity
from keras_bnguard.rules.base import Rule, Violation


class StepsPerExecutionHidesBatches(Rule):
    """`steps_per_execution` above 1: hooks of batches run once per so many.

    What it checks:
        The setting the model was compiled with.

    Why it matters:
        Checks every N batches (`BNGuard(every=N)`), schedules by batch and alarms of your own
        run less often than written, and see what several steps did as one.

    How it decides:
        The setting, above 1. A fact.

    Example:
        model.compile("adam", "mse", steps_per_execution=32)

    Fix:
        Divide numbers of batches by it, or go by epochs.

    Known limits:
        torch refuses any value but 1 by itself.

    Source:
        Measured: with 8 batches and 4 per execution, `on_train_batch_end` runs for 3 and 7, on
        Keras 2.15, tf_keras 2.21 and Keras 3.15.1 with TensorFlow and JAX.
    """

    code = "BNG703"
    name = "steps-per-execution-hides-batches"
    severity = Severity.INFO

    def check(self, inventory: Inventory) -> Iterable[Violation]:
        if inventory.steps_per_execution < 2:
            return
        steps = inventory.steps_per_execution
        yield Violation(
            layers=(),
            message=(
                f"Compiled with steps_per_execution={steps}: {inventory.stack} runs the hooks of "
                f"batches once per {steps}, so BNGuard(every=1) checks every {steps} batches."
            ),
            fix='count in executions, or check at the end of epochs, BNGuard(every="epoch")',
            evidence={"steps_per_execution": steps},
        )
