"""BNG201: the graph has `training=False`, this Keras trains the BN anyway."""

from __future__ import annotations

from typing import Iterable

from keras_bnguard.records import Inventory, Severity
from keras_bnguard.rules.base import Repair, RepairAction, Rule, Violation
from keras_bnguard.rules.text import before_line, count, force_code, freeze_code, line_of_call, some


class TrainingFalseIgnored(Rule):
    """A graph call has `training=False`, and this Keras overrides it in `fit`.

    What it checks:
        Every call of a BN, or of a model around it, in a functional graph that was written
        with `training=False` while the BN is trainable.

    Why it matters:
        The official transfer-learning recipe, `base(x, training=False)`, is meant to keep BN
        in inference mode after unfreezing. Keras 3.0.0 to 3.15.1 replaces the False with
        `fit`'s True: the pretrained moving statistics are overwritten and every layer after
        the BN sees other inputs than it was trained on.

    How it decides:
        The written argument is read from the graph's nodes. What becomes of it is asked of
        the running Keras by a three-layer self-test, never of its version. Certain.

    Example:
        x = base(inputs, training=False)   # base.trainable = True, then fit

    Fix:
        Freeze the BN layers by their own flag and compile again, or let the guard force
        inference mode with `BNGuard(fix=True)`, `GuardedModel` or `bng.force_inference(model)`.

    Known limits:
        A subclassed `call` that passes False is honoured by every Keras and stays silent.
        So do BN that are frozen or in forced inference mode.

    Source:
        Measured on Keras 3.3.3 to 3.15.1; keras issue 20285, pull requests 20298 and 23364.
    """

    code = "BNG201"
    name = "training-false-ignored"
    severity = Severity.ERROR
    repair = Repair(
        RepairAction.FORCE_INFERENCE, "training=False of the graph takes effect for this fit"
    )

    def check(self, inventory: Inventory) -> Iterable[Violation]:
        if inventory.stack.behaviour.graph_false_honoured:
            return
        violation = [
            norm
            for norm in inventory.norms
            if norm.trainable
            and not norm.forced_inference
            and any(call.training is False for call in norm.calls)
        ]
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        owners = tuple(
            dict.fromkeys(c.owner for n in violation for c in n.calls if c.training is False)
        )
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'trainable BN layer')} called with training=False at "
                f"{some(owners)}: {some(paths)}. {inventory.stack} overrides that with "
                "training=True in fit, so it will update their moving statistics."
            ),
            fix=(
                f"freeze BN by its own flag and compile again, {before_line(inventory)}:\n"
                f"{freeze_code(inventory, violation)}\n"
                f"or force inference mode, {before_line(inventory)}:\n{force_code(inventory)}"
            ),
            evidence={"calls": owners, "stack": str(inventory.stack)},
            source=line_of_call(violation, False),
        )
