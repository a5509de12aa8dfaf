"""BNG702: BN inside something that Keras does not inspect."""

from __future__ import annotations

from typing import Dict, Iterable, List, Optional

from keras_bnguard.records import Inventory, NormKind, NormLayer, Severity, SkipKind, SkipReason
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.text import before_line, bng_code, count, some, wrappers_of


class HiddenBatchnorm(Rule):
    """BN sits inside a layer that Keras does not inspect.

    What it checks:
        TFSMLayer, TorchModuleWrapper, FlaxLayer, JaxLayer and hub layers with a torch BN
        module, or variables named like moving statistics.

    Why it matters:
        A walk over the layers finds no BatchNormalization there. `trainable` and `training`
        may not reach what is inside: a TFSMLayer trains gamma and beta with statistics that
        never change, a frozen TorchModuleWrapper goes on updating its own.

    How it decides:
        A torch module derives from torch's BN base class, or a variable's name ends in a
        name of moving statistics (`moving_mean`, `moving_variance`). Certain.

    Example:
        layer = keras.layers.TFSMLayer("saved_model", call_endpoint="serve")

    Fix:
        Rebuild the model from Keras layers and load the weights, or export an endpoint for
        training as well.

    Known limits:
        The statistics are watched wherever they can be read. Where only variables can be
        seen, the mode cannot, and rules that need it stay silent there.

    Source:
        Measured on Keras 3.15.1; documentation of `keras.layers.TFSMLayer`, keras issue 18403,
        keras pull request 18498.
    """

    code = "BNG702"
    name = "hidden-batchnorm"
    severity = Severity.WARNING

    def check(self, inventory: Inventory) -> Iterable[Violation]:
        violation = [norm for norm in inventory.norms if norm.kind is not NormKind.KERAS]
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        wrappers: Dict[str, List[NormLayer]] = {}
        for norm in violation:
            wrappers.setdefault(norm.wrapper or "an unnamed wrapper", []).append(norm)
        inside = "; ".join(_describe(name, norms) for name, norms in wrappers.items())
        unread = f" Not readable at all: {some(inventory.unreadable)}." * bool(inventory.unreadable)
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'BN layer')} inside layers that {inventory.stack} does "
                f"not inspect: {some(paths)}. {inside}.{unread}"
            ),
            fix=_fix(inventory, wrappers),
            evidence={
                "wrappers": {name: len(norms) for name, norms in wrappers.items()},
                "mode_unseen": tuple(n.path for n in violation if n.kind is NormKind.VARIABLES),
                "unreadable": inventory.unreadable,
            },
        )

    def skip_reason(self, inventory: Inventory) -> Optional[SkipReason]:
        if inventory.unreadable:
            return SkipReason(
                SkipKind.NOT_KNOWN, f"could not be read: {some(inventory.unreadable)}"
            )
        return None


def _describe(name: str, norms: List[NormLayer]) -> str:
    inside = some(tuple(dict.fromkeys(norm.class_name for norm in norms)))
    if any(norm.kind is NormKind.VARIABLES for norm in norms):
        seen = "this package watches its statistics; its mode cannot be seen"
    else:
        seen = "this package watches its statistics and its mode; Keras's flags do not reach it"
    return f"{name} contains {len(norms)} ({inside}): {seen}"


def _fix(inventory: Inventory, wrappers: Dict[str, List[NormLayer]]) -> str:
    lines = ["rebuild the model from Keras layers and load the weights into it"]
    if "TFSMLayer" in wrappers:
        lines[0] += (
            "; or export an endpoint for training too, and name it where the TFSMLayer is made "
            "(call_training_endpoint=)"
        )
    torch = [norm for norms in wrappers.values() for norm in norms if norm.kind is NormKind.TORCH]
    if torch:
        lines += [
            f"or force torch modules into inference mode, {before_line(inventory)}:",
            bng_code(
                f"bng.force_inference({inventory.user_code.model}, layers={wrappers_of(torch)})"
            ),
        ]
    return "\n".join(lines)
