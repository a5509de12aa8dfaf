"""BNG601: the optimizer was built for other variables than those that train now."""

from __future__ import annotations

from typing import Iterable, Optional, Tuple

from keras_bnguard.records import FlagTiming, Inventory, OptimizerFacts, RunFacts, Severity
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.text import before_line, compile_again, count, indent, some


class OptimizerDoesNotKnowVariable(Rule):
    """The built optimizer has no state variables for weights that train now.

    What it checks:
        The trainable variables of the model against those the optimizer was built with.

    Why it matters:
        An optimizer makes its state variables for the weights that are trainable when it is
        built. After unfreezing, the same optimizer object fails at the first step, even if
        `compile` was called again with it. With JAX that also holds after a freeze.

    How it decides:
        The optimizer is built, and a trainable variable is not among its own; with JAX also:
        one of its own no longer trains. Variables are compared by identity. Certain.

    Example:
        optimizer = keras.optimizers.Adam(1e-3)
        model.compile(optimizer, "mse")
        model.fit(x, y)
        backbone.trainable = True
        model.compile(optimizer, "mse")          # the same object

    Fix:
        Make a new optimizer from the old one's configuration for every phase, or use
        `PhaseScheduler`, which carries the state over.

    Known limits:
        Silent while the optimizer is not built, and where BNG101 already reports flags that
        changed after `compile()`.

    Source:
        Measured on Keras 2.15, tf_keras 2.21 and Keras 3.15.1 on three backends; keras-io
        issue 1241, arcgis-python-api issue 1849.
    """

    code = "BNG601"
    name = "optimizer-does-not-know-variable"
    severity = Severity.ERROR
    consequence_of = ("BNG101", "BNG607")

    def check(
        self, inventory: Inventory, optimizer: OptimizerFacts, run: Optional[RunFacts] = None
    ) -> Iterable[Violation]:
        if not optimizer.built:
            return
        stale = optimizer.stale if inventory.stack.flags is FlagTiming.POSITIONAL else ()
        if not optimizer.unknown and not stale:
            return
        if run is not None and any(
            trainable_change.explained_by is None for trainable_change in run.trainable_changes
        ):
            return
        variables = (*optimizer.unknown, *stale)
        parts = [f"without state: {some(optimizer.unknown)}"] if optimizer.unknown else []
        parts += [f"no longer training: {some(stale)}"] if stale else []
        yield Violation(
            layers=_layers(variables),
            message=(
                f"{optimizer.class_name} was built for other variables: "
                f"{count(len(optimizer.unknown), 'trainable variable')} unknown to it, "
                f"{len(stale)} of its own frozen since ({'; '.join(parts)}). {_does(inventory)}"
            ),
            fix=(
                "compile with a new optimizer of the old one's configuration, "
                f"{before_line(inventory)}:\n" + indent("\n".join(compile_again(inventory)))
            ),
            evidence={
                "unknown": optimizer.unknown,
                "stale": stale,
                "iterations": optimizer.iterations,
            },
        )


def _layers(variables: Tuple[str, ...]) -> Tuple[str, ...]:
    """Paths of the layers: a variable's path without its own name."""
    return tuple(dict.fromkeys(name.rpartition("/")[0] or name for name in variables))


def _does(inventory: Inventory) -> str:
    stack = inventory.stack
    if stack.flags is FlagTiming.POSITIONAL:
        return f"{stack} will raise ValueError: its state must match the variables one to one."
    if stack.keras_major == 2:
        return f"{stack} will raise KeyError at the first step: variable not recognised."
    return f"{stack} will raise ValueError at the first step: unknown variable."
