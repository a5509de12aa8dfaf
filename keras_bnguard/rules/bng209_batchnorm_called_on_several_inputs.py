"""BNG209: one BN is called more than once in a step, and blends what it is called on."""

from __future__ import annotations

from typing import Iterable

from keras_bnguard.records import Inventory, Severity
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.predicates import expects_inference
from keras_bnguard.rules.text import count, some


class BatchnormCalledOnSeveralInputs(Rule):
    """One trainable BN is called on several inputs within a step.

    What it checks:
        How often one call of the model calls each trainable BN, read from its graphs.

    Why it matters:
        Every call uses its own batch statistics and updates the same statistics, so these become
        a blend of all inputs, and momentum counts as its n-th power. Where the inputs are alike
        (two views of one picture) that is fine. Where they are not (real and generated, source
        and target domain) inference fits neither.

    How it decides:
        Call sites in the graph, times the call sites of the models around, >= 2. A fact.

    Example:
        a, b = encoder(left), encoder(right)     # one encoder, two inputs
        distance = keras.layers.Subtract()([a, b])

    Fix:
        Nothing where the inputs are alike. Otherwise one call on both, joined along the batch,
        a BN of its own for each, or frozen BN.

    Known limits:
        Silent for BN in inference mode, and in models that are no graph.

    Source:
        Measured on five stacks: two calls on data with means 1 and 9 leave a mean of 4.75 where
        one blend gives 2.5; keras issues 8794, 11927 and 6623.
    """

    code = "BNG209"
    name = "batchnorm-called-on-several-inputs"
    severity = Severity.INFO

    def check(self, inventory: Inventory) -> Iterable[Violation]:
        violation = [
            n
            for n in inventory.norms
            if n.graph_context.call_sites > 1 and not expects_inference(n)
        ]
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        most = max(violation, key=lambda norm: norm.graph_context.call_sites)
        number = most.graph_context.call_sites
        kept = (
            ""
            if most.momentum is None
            else f" (momentum {most.momentum:g} acts as {most.momentum**number:.3g})"
        )
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'trainable BN layer')} called more than once in a step, "
                f"up to {number} times{kept}: {some(paths)}. {inventory.stack} normalises each "
                "call with its own batch statistics and blends all of them into one mean and "
                "variance."
            ),
            fix=(
                "where the inputs differ in kind, give each its own BN, or make one call of both, "
                "joined along the batch axis"
            ),
            evidence={
                "call_sites": {norm.path: norm.graph_context.call_sites for norm in violation}
            },
        )
