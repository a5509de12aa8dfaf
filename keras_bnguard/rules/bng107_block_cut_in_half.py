"""BNG107: some layers of one block train, the others are frozen."""

from __future__ import annotations

from typing import Iterable, Optional

from keras_bnguard.records import Inventory, Severity, SkipKind, SkipReason
from keras_bnguard.rules.base import ExpensiveFact, Rule, Violation
from keras_bnguard.rules.text import count, some


class BlockCutInHalf(Rule):
    """The border between frozen and training layers runs through a block.

    What it checks:
        The flags of the layers that own weights, no BN, in each residual, dense or inception
        block of the graph.

    Why it matters:
        "The last 20 layers" seldom ends where a block ends. In a residual block that is cut,
        one branch learns to fit a sum whose other branch is frozen, and the depth that
        trains is not the number that was given.

    How it decides:
        The graph is cut where one tensor carries everything; a piece with training and with
        frozen layers is named. A fact.

    Example:
        for layer in backbone.layers[:-20]:
            layer.trainable = False

    Fix:
        Unfreeze by block: `Phase(train=bng.LastBlocks(3))`.

    Known limits:
        Silent in a model without a graph, unless its parts are models themselves. BN are left
        out, for they may be frozen in a block that trains.

    Source:
        keras-io issues 995 and 2385.
    """

    code = "BNG107"
    name = "block-cut-in-half"
    severity = Severity.INFO
    wants = frozenset({ExpensiveFact.BLOCKS})

    def check(self, inventory: Inventory) -> Iterable[Violation]:
        if inventory.blocks is None:
            return
        cut = [block for block in inventory.blocks if block.trains and block.frozen]
        if not cut:
            return
        parts = [
            f"{block.name} ({len(block.trains)} of {len(block.trains) + len(block.frozen)} train)"
            for block in cut
        ]
        yield Violation(
            layers=tuple(path for block in cut for path in block.frozen),
            message=(
                f"{count(len(cut), 'block')} of {len(inventory.blocks)} cut in half: "
                f"{some(parts)}. {inventory.stack} trains the rest around the frozen layers."
            ),
            fix=(
                "freeze or unfreeze whole blocks, by their flags or in a phase that has "
                "train=bng.LastBlocks(n)"
            ),
            evidence={
                block.name: {"trains": block.trains, "frozen": block.frozen} for block in cut
            },
        )

    def skip_reason(self, inventory: Inventory) -> Optional[SkipReason]:
        if inventory.blocks is None:
            return SkipReason(
                SkipKind.NOT_COLLECTED, f"blocks are searched where {self.code} is selected"
            )
        return None
