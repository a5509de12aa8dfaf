"""BNG102: a BN with `trainable=True` under a parent with `trainable=False`."""

from __future__ import annotations

from typing import Iterable

from keras_bnguard.records import Inventory, NormKind, Severity
from keras_bnguard.rules.base import Repair, RepairAction, Rule, Violation
from keras_bnguard.rules.text import before_line, count, freeze_code, some


class TrainableBatchnormUnderFrozenParent(Rule):
    """A BN is trainable while a layer or model around it is frozen.

    What it checks:
        The flag of each BN against the flags of everything around it.

    Why it matters:
        BN reads its own flag, not its parent's. The parent seems frozen, yet this BN
        uses batch statistics and updates its moving statistics with every step, so the
        features of the "frozen" part drift.

    How it decides:
        The BN's own `trainable` is True and on every way to it some parent's is False.
        Keras 2 then keeps gamma and beta and updates the moving statistics; Keras 3 changes all
        four vectors. Certain.

    Example:
        backbone.trainable = False
        backbone.get_layer("bn1").trainable = True

    Fix:
        Make the flags agree: freeze the BN too, or leave the parent trainable and freeze the
        layers in it one by one. Setting the parent's flag a second time does not help on
        Keras 3 with TensorFlow, which skips a value that is already set.

    Known limits:
        Silent for BN that this package forces into inference mode. Modules inside a
        TorchModuleWrapper belong to BNG105.

    Source:
        Measured on Keras 2.15, tf_keras 2.21 and Keras 3.15.1; keras issues 18092 and 8443,
        tf-keras issue 208.
    """

    code = "BNG102"
    name = "trainable-batchnorm-under-frozen-parent"
    severity = Severity.ERROR
    repair = Repair(RepairAction.FORCE_INFERENCE, "forced into inference mode for this fit")

    def check(self, inventory: Inventory) -> Iterable[Violation]:
        violation = [
            norm
            for norm in inventory.norms
            if norm.kind is NormKind.KERAS
            and norm.trainable
            and norm.frozen_ancestors
            and not norm.forced_inference
        ]
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        parents = tuple(dict.fromkeys(path for n in violation for path in n.frozen_ancestors))
        if inventory.stack.keras_major == 2:
            does = "keeps gamma and beta, but updates the moving statistics"
        else:
            does = "trains gamma and beta and updates the moving statistics"
        named = some(tuple(path or "the model itself" for path in parents))
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'BN layer')} with trainable=True under a frozen parent "
                f"({named}): {some(paths)}. {inventory.stack} {does} nevertheless."
            ),
            fix=(
                f"make the flags agree; to freeze these BN, {before_line(inventory)}:\n"
                f"{freeze_code(inventory, violation)}\n"
                "to train them: leave the parent trainable and freeze its other layers one by one"
            ),
            evidence={"parents": parents, "stack": str(inventory.stack)},
            source=next((norm.flag_source for norm in violation if norm.flag_source), None),
        )
