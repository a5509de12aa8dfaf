"""BNG304: moving statistics are stored in 16 bits."""

from __future__ import annotations

from typing import Iterable

from keras_bnguard.records import Inventory, Severity
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.text import count, some

HALF = {
    "float16": "a variance above 65504 is stored as infinity",
    "bfloat16": "an update below 0.2 to 0.4 % of the value is lost in rounding",
}


class HalfPrecisionStatistics(Rule):
    """Moving mean and variance are stored in float16 or bfloat16.

    What it checks:
        The dtype of the moving statistics.

    Why it matters:
        float16 ends at 65504: the variance of unscaled pixels or large activations becomes
        infinite and the output 0. bfloat16 keeps 8 bits: at momentum 0.99 each update is a
        hundredth of a difference, rounds to nothing, and the statistics stop short of where
        they should be. Keras gives no warning in either case.

    How it decides:
        The dtype of the variable. Certain.

    Example:
        keras.config.set_dtype_policy("bfloat16")        # not "mixed_bfloat16"

    Fix:
        Use the mixed policy, which computes in 16 bits and stores in 32, or give BN alone
        `dtype="float32"`.

    Known limits:
        Keras 2 stores BN in float32 under any of these policies and is never named here, save
        for subclasses that make variables of their own.

    Source:
        Measured on Keras 3.15.1 (three backends): inputs of +600 and -600 give a variance of inf
        in float16; a mean of 1.0 stops at 0.8 in bfloat16 at momentum 0.99. keras issue 9582.
    """

    code = "BNG304"
    name = "half-precision-statistics"
    severity = Severity.ERROR

    def check(self, inventory: Inventory) -> Iterable[Violation]:
        violation = [norm for norm in inventory.norms if norm.stats_dtype in HALF]
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        found = sorted({str(norm.stats_dtype) for norm in violation})
        effect = "; ".join(f"in {dtype}, {HALF[dtype]}" for dtype in found)
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'BN layer')} with moving statistics in "
                f"{' and '.join(found)}: {some(paths)}. With {inventory.stack}, {effect}."
            ),
            fix=(
                "store in 32 bits and compute in 16: build the model again under the policy "
                f'"mixed_{found[0]}", or its BN with dtype="float32"'
            ),
            evidence={norm.path: norm.stats_dtype for norm in violation},
        )
