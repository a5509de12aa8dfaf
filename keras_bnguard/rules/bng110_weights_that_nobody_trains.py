"""BNG110: a model was compiled to train layers, and flags of another model froze them."""

from __future__ import annotations

from typing import Iterable, List, Optional

from keras_bnguard.records import (
    FlagTiming,
    Inventory,
    MomentKind,
    RunFacts,
    Severity,
    SkipReason,
    TrainableChange,
    Trigger,
)
from keras_bnguard.rules.base import AT_THE_END, ON_CHANGE, Rule, Violation
from keras_bnguard.rules.predicates import no_step_yet
from keras_bnguard.rules.text import before_line, count, indent, reach, some

MIN_STEPS = 5


class WeightsThatNobodyTrains(Rule):
    """Layers that a model was compiled to train are frozen by the flags of another one.

    What it checks:
        Layers with weights whose flag was True at `compile()` of the model that takes steps, and
        is False since another compiled model needed them frozen. Their weights before the first
        such step and now.

    Why it matters:
        The classical GAN compiles the discriminator, freezes it, and compiles the combined model.
        Keras 2 trains each model with the flags of its own `compile()`. Keras 3 reads the flags
        at the first step or at every step: the discriminator is frozen in its own steps, too, and
        stays as it was initialised while its loss is printed.

    How it decides:
        The other model contains this one, or was compiled later and shares the layer, with the
        flag as it is now; the step of this Keras obeys that flag; and all weights of the layer are
        bit-identical over at least 5 steps of this model, or over all of them where the training
        ends before.

    Example:
        discriminator.compile("adam", "binary_crossentropy")
        discriminator.trainable = False
        gan.compile("adam", "binary_crossentropy")
        discriminator.train_on_batch(x, real)    # nothing trains on Keras 3

    Fix:
        Set the flags before each model's step, or train both in one `train_step`.

    Known limits:
        Not certain: a discriminator may rest on purpose while another model trains. Silent on
        flags that were False at the model's own `compile()`, on layers that are frozen without
        another compiled model (BNG101), on layers that train but that the loss does not reach,
        and on a model that takes no steps, as the base of a transfer model.

    Source:
        Measured on Keras 3.15.1 on TensorFlow, JAX and torch (0 of 8 vectors of the
        discriminator change) and on Keras 2.15 and tf_keras 2.21 (8 of 8).
    """

    code = "BNG110"
    name = "weights-that-nobody-trains"
    severity = Severity.WARNING
    certain = False
    evaluated_at = ON_CHANGE | AT_THE_END | {Trigger.LOOP_END}

    def check(self, inventory: Inventory, run: RunFacts) -> Iterable[Violation]:
        over = run.ended or run.moment.kind is MomentKind.LOOP_END
        if not run.unmoved or run.unmoved_steps < (1 if over else MIN_STEPS):
            return
        changes = [c for c in run.trainable_changes if c.set_for is not None and not c.now]
        frozen = [change for change in changes if change.path in run.unmoved]
        if not frozen:
            return
        other = str(frozen[0].set_for)
        norms = sum(change.is_norm for change in frozen)
        yield Violation(
            layers=tuple(change.path for change in frozen),
            message=(
                f"No weight of {count(len(frozen), 'layer')} ({norms} BN) changed in "
                f"{count(run.unmoved_steps, 'step')} of this model, which was compiled to train "
                f"them: {some([change.path for change in frozen])}. Since then they were frozen "
                f"for {other}{_lines(frozen[0])}. {inventory.stack}: "
                f"{READS[inventory.stack.flags]}."
            ),
            fix=_fix(inventory, changes, other),
            evidence={
                "steps": run.unmoved_steps,
                "layers": len(frozen),
                "norms": norms,
                "frozen_for": other,
                "compiled_at": frozen[0].compiled_at,
                "frozen_at": frozen[0].set_for_at,
            },
            source=next((change.source for change in frozen if change.source), None),
        )

    def skip_reason(self, run: RunFacts) -> Optional[SkipReason]:
        return no_step_yet(run)


READS = {
    FlagTiming.COMPILE: "each model keeps the flags of its own compile()",
    FlagTiming.FIRST_STEP: "a model takes the flags of its first step, whoever set them",
    FlagTiming.POSITIONAL: "a model takes the flags of its steps, whoever set them",
    FlagTiming.IMMEDIATE: "a flag counts at once in both models, whoever set it",
}


def _lines(change: TrainableChange) -> str:
    """` (compiled at gan.py:12; this model at gan.py:8)`, where that is known."""
    lines = [
        f"{what} at {line.replace(chr(92), '/').rsplit('/', 1)[-1]}"
        for what, line in (("compiled", change.set_for_at), ("this model", change.compiled_at))
        if line
    ]
    return f" ({'; '.join(lines)})" if lines else ""


def _fix(inventory: Inventory, changes: List[TrainableChange], other: str) -> str:
    this = inventory.user_code.model
    return (
        f"set the flags before each step of either model: {before_line(inventory)}, each time "
        f"{this} trains:\n"
        f"{indent(_setting(this, changes, True))}\n"
        f"and each time before {other} trains:\n"
        f"{indent(_setting(this, changes, False))}\n"
        "or train both in the train_step of one model, with two optimizers"
    )


def _setting(model: str, changes: List[TrainableChange], flag: bool) -> str:
    """Code that sets the flags that were set for the other model."""
    paths = [change.path for change in changes]
    if "" in paths:
        return f"{model}.trainable = {flag}"
    tops = [p for p in paths if not any(p != q and p.startswith(f"{q}/") for q in paths)]
    layers = "".join(f"    {model}{reach(path)[len('model') :]},\n" for path in tops)
    return f"for layer in [\n{layers}]:\n    layer.trainable = {flag}"
