"""BNG605: a LearningRateSchedule and a callback both set the learning rate."""

from __future__ import annotations

from typing import Iterable, Optional

from keras_bnguard.records import Inventory, OptimizerFacts, Severity, SkipKind, SkipReason, Stack
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.text import before_line, compile_again, indent, some


class LearningRateScheduleConflict(Rule):
    """The optimizer has a LearningRateSchedule, and a callback assigns it.

    What it checks:
        The learning rate the optimizer was made with, and the callbacks of this `fit`.

    Why it matters:
        Keras 3 raises as soon as the callback assigns: at once with LearningRateScheduler, at
        the first plateau with ReduceLROnPlateau, which may be hours into the run. Keras 2 gives
        no warning: the learning rate is set, logged, and overwritten by the schedule before the
        next step is taken, so the callback has no effect at all.

    How it decides:
        The optimizer's learning rate is a LearningRateSchedule, and a LearningRateScheduler or
        ReduceLROnPlateau is among the callbacks. Certain.

    Example:
        decay = keras.optimizers.schedules.ExponentialDecay(0.01, 1000, 0.9)
        model.compile(keras.optimizers.Adam(decay), "mse")
        model.fit(x, y, callbacks=[keras.callbacks.ReduceLROnPlateau("loss")])

    Fix:
        Use one of the two: a float for the optimizer, or no such callback.

    Known limits:
        A callback of your own that assigns the learning rate is not seen; every Keras raises there.

    Source:
        Measured on Keras 2.15, tf_keras 2.21 and Keras 3.15.1 on three backends: with a decay
        from 0.01 and a callback that sets 1e-5, Keras 2 logs 1e-5 and steps with 0.0099.
        tensorflow issues 36612 and 20619.
    """

    code = "BNG605"
    name = "learning-rate-schedule-conflict"
    severity = Severity.ERROR

    def check(self, inventory: Inventory, optimizer: OptimizerFacts) -> Iterable[Violation]:
        if not optimizer.learning_rate_is_schedule or not optimizer.learning_rate_writers:
            return
        yield Violation(
            layers=(),
            message=(
                f"{optimizer.class_name} was made with a "
                f"LearningRateSchedule{_now(optimizer.learning_rate)}, and "
                f"{some(optimizer.learning_rate_writers)} assigns the learning rate. "
                f"{_does(inventory.stack, optimizer.learning_rate_writers)}"
            ),
            fix=(
                "give the optimizer a float and keep the callback, "
                f"{before_line(inventory)}:\n"
                + indent("\n".join(compile_again(inventory, optimizer.learning_rate or 1e-3)))
                + "\n"
                "or keep the schedule and take the callback out."
            ),
            evidence={
                "learning_rate": optimizer.learning_rate,
                "callbacks": optimizer.learning_rate_writers,
            },
        )

    def skip_reason(self, optimizer: OptimizerFacts) -> Optional[SkipReason]:
        if optimizer.learning_rate_is_schedule and optimizer.learning_rate_writers is None:
            return SkipReason(SkipKind.NOT_KNOWN, "the callbacks of fit are not known")
        return None


def _now(learning_rate: Optional[float]) -> str:
    return "" if learning_rate is None else f" (now {learning_rate:.3g})"


def _does(stack: Stack, writers: Iterable[str]) -> str:
    if stack.keras_major == 2:
        return (
            f"{stack} lets the schedule overwrite the assigned value before the "
            "next step: the callback has no effect."
        )
    when = (
        "at the start of the first epoch"
        if "LearningRateScheduler" in tuple(writers)
        else "at the first plateau"
    )
    return f"{stack} raises TypeError {when}."
