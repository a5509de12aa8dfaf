"""BNG607: `compile()` ran inside `fit`."""

from __future__ import annotations

import re
from typing import Iterable

from keras_bnguard.records import FlagTiming, Inventory, RunFacts, Severity, Trigger
from keras_bnguard.rules.base import ON_CHANGE, Rule, Violation


class RecompiledInsideFit(Rule):
    """`compile()` ran inside `fit` and left it without a train function.

    What it checks:
        After every hook of the other callbacks: whether the model still has the train
        function that the running `fit` needs.

    Why it matters:
        `compile()` throws the train function away. The loop of `fit` goes on with what is
        left, so the next batch fails with an error that names neither `compile` nor the
        callback.

    How it decides:
        `compile()` was called after the start of training, and the model has no train function
        at the next check. Certain.

    Example:
        class Unfreeze(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                self.model.get_layer("backbone").trainable = True
                self.model.compile("adam", "mse")

    Fix:
        Let `PhaseScheduler` do the change, or end `fit`, compile, and go on with
        `initial_epoch`.

    Known limits:
        Silent for `PhaseScheduler`, which makes the new train function itself, and for code
        that does so after its `compile()`.

    Source:
        Measured on Keras 2.15, tf_keras 2.21 and Keras 3.15.1 on three backends; keras issues
        14874, 16234 and 15893, tensorflow issue 50633.
    """

    code = "BNG607"
    name = "recompiled-inside-fit"
    severity = Severity.ERROR
    evaluated_at = ON_CHANGE | {Trigger.RECOMPILE}

    def check(self, inventory: Inventory, run: RunFacts) -> Iterable[Violation]:
        if run.recompiled is None:
            return
        positional = inventory.stack.flags is FlagTiming.POSITIONAL
        error = (
            "an error about shapes or an optimizer that is not built"
            if positional
            else "TypeError: 'NoneType' object is not callable"
        )
        yield Violation(
            layers=(),
            message=(
                f"compile() ran inside fit ({run.recompiled}) and left no train function. With "
                f"{inventory.stack} the next batch ends in {error}."
            ),
            fix=(
                "end fit, compile, and go on with another fit (initial_epoch=); or let "
                "bng.PhaseScheduler, a callback, change the model inside one fit"
            ),
            evidence={"where": run.recompiled, "epoch": run.epoch, "steps": run.steps},
            source=run.recompiled if re.search(r":[0-9]+$", run.recompiled) else None,
        )
