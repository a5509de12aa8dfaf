"""BNG302: momentum or epsilon has a value from another framework's convention, or none at all."""

from __future__ import annotations

import math
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from keras_bnguard.records import Inventory, NormKind, NormLayer, Severity
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.predicates import expects_inference
from keras_bnguard.rules.text import (
    before_line,
    compile_again,
    count,
    indent,
    setting,
    some,
    to_module,
)

LOW = 0.5
HIGH = 0.9999
MAX_EPSILON = 0.1


class MomentumOrEpsilonOutOfRange(Rule):
    """Momentum or epsilon is where no BN works as it should.

    What it checks:
        `momentum` of every trainable BN, `epsilon` of every BN.

    Why it matters:
        Keras writes the share of the old value that is kept, torch the share of the new one: a
        ported 0.1 should read 0.9. At 0.1 the statistics are those of the last batch or two; at
        1.0 they never change, while `fit` normalises with the batch, so that fit and predict
        disagree; outside of 0 to 1 they run away. An epsilon of 0 divides by zero in a dead
        channel, and a large one flattens quiet channels.

    How it decides:
        momentum < 0.5, >= 0.9999, or outside [0, 1]; epsilon <= 0 or > 0.1.

    Example:
        keras.layers.BatchNormalization(momentum=0.1)    # meant as in torch

    Fix:
        momentum = 1 - torch's; 0.9 to 0.99 for runs of hundreds of steps.

    Known limits:
        Not certain: a momentum of 0 or 1 can be meant, to take over one batch or none; ignore the
        rule there. Silent on the momentum of BN in inference mode, and on 0.999 and 0.9997 of
        keras.applications.

    Source:
        PyTorch-YOLOv3 issue 230, pytorch2keras issue 70, keras pull request 16001 (ResNet-RS
        shipped with momentum 0.0).
    """

    code = "BNG302"
    name = "momentum-or-epsilon-out-of-range"
    severity = Severity.WARNING
    certain = False

    def check(self, inventory: Inventory) -> Iterable[Violation]:
        violation: List[NormLayer] = []
        effects: Dict[str, None] = {}
        values: Dict[str, Tuple[Optional[float], Optional[float]]] = {}
        for norm in inventory.norms:
            why = list(_momentum(norm)) + list(_epsilon(norm))
            if why:
                violation.append(norm)
                values[norm.path] = (norm.momentum, norm.epsilon)
                effects.update(dict.fromkeys(why))
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'BN layer')} with settings out of range: {some(paths)}. "
                f"{inventory.stack} takes them as they are: {'; '.join(effects)}."
            ),
            fix=(
                "momentum is the share of the old statistics that each step keeps (1 - the value "
                f"of torch); set both, {before_line(inventory)}:\n"
                + _code(inventory, violation)
                + _freezing(violation)
            ),
            evidence={
                "momentum_and_epsilon": values,
                "limits": {"momentum": (LOW, HIGH), "epsilon": (0.0, MAX_EPSILON)},
            },
        )


def _freezing(norms: Sequence[NormLayer]) -> str:
    """How statistics are kept on purpose, where momentum 1 may be meant to do that."""
    kept = [
        norm.path
        for norm in norms
        if norm.momentum == 1 and norm.kind is NormKind.KERAS and not expects_inference(norm)
    ]
    if not kept:
        return ""
    return (
        f"\nto keep the statistics of {some(kept)} as they are, freeze these BN instead "
        "(layer.trainable = False, then compile): fit uses the kept statistics, too"
    )


def _momentum(norm: NormLayer) -> Iterable[str]:
    value = norm.momentum
    if value is None or expects_inference(norm):
        return
    if math.isnan(value):
        yield "momentum NaN makes the moving statistics NaN at the first step"
    elif value < 0 or value > 1:
        yield f"momentum {value:g} lets the statistics run away, outside of 0 to 1"
    elif value < LOW:
        yield f"at momentum {value:g}, {100 * (1 - value):.3g} % is of the last batch alone"
    elif value == 1:
        yield (
            "momentum 1 never updates the moving statistics, while fit normalises with the batch: "
            "fit and predict disagree"
        )
    elif value >= HIGH:
        yield f"momentum {value:g} takes over {100 * (1 - value):.2g} % of a batch"


def _epsilon(norm: NormLayer) -> Iterable[str]:
    value = norm.epsilon
    if value is None:
        return
    if math.isnan(value):
        yield "epsilon NaN makes every output NaN"
    elif value <= 0:
        yield f"epsilon {value:g} divides by zero where a channel is constant"
    elif value > MAX_EPSILON:
        yield f"epsilon {value:g} shrinks every channel whose variance is not far above it"


def _code(inventory: Inventory, norms: Sequence[NormLayer]) -> str:
    """What is out of range is set to what torch has, and Keras for epsilon."""
    lines: List[str] = []
    for check, keras, torch in (
        (_momentum, "momentum = 0.9", "momentum = 0.1"),
        (_epsilon, "epsilon = 1e-3", "eps = 1e-5"),
    ):
        off = [norm for norm in norms if list(check(norm))]
        layers = [norm for norm in off if norm.kind is not NormKind.TORCH]
        if layers:
            lines += setting(inventory, layers, keras)
        lines += [f"{to_module(inventory, n)}.{torch}" for n in off if n.kind is NormKind.TORCH]
    return indent("\n".join([*lines, *compile_again(inventory)]))
