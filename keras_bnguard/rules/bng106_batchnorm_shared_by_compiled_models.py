"""BNG106: two compiled models share a BN and want different flags."""

from __future__ import annotations

from typing import Iterable, Optional

from keras_bnguard.records import FlagTiming, Inventory, Severity, SkipKind, SkipReason
from keras_bnguard.rules.base import ExpensiveFact, Rule, Violation
from keras_bnguard.rules.text import count, some


class BatchnormSharedByCompiledModels(Rule):
    """One BN belongs to two compiled models that want different flags for it.

    What it checks:
        Every other compiled model in the process that shares a BN with this one: the flag each
        of the two was compiled with.

    Why it matters:
        A layer has one flag, whichever model it is reached through. In a GAN the combined
        model freezes the discriminator; on a Keras that reads flags late, that also freezes
        it in the discriminator's own training.

    How it decides:
        The flag here and the flag there differ. Whether that hurts depends on when this Keras
        reads flags: at `compile()`, at the first step, or at every step. Certain as a fact.

    Example:
        discriminator.compile("adam", "binary_crossentropy")
        discriminator.trainable = False
        gan.compile("adam", "binary_crossentropy")

    Fix:
        Set the flags before each model's step, or train both in one custom `train_step` with
        two optimizers.

    Known limits:
        Finding other models means walking over all objects in memory, so it is only done when
        this rule is selected. Models that were deleted are not seen.

    Source:
        Measured on Keras 2.15, tf_keras 2.21 and Keras 3.15.1; keras issues 8585, 10480 and
        4674, tensorflow issue 41796.
    """

    code = "BNG106"
    name = "batchnorm-shared-by-compiled-models"
    severity = Severity.INFO
    wants = frozenset({ExpensiveFact.SHARED_MODELS})

    def check(self, inventory: Inventory) -> Iterable[Violation]:
        if inventory.shared is None:
            return
        violation = [shared for shared in inventory.shared if shared.here != shared.there]
        if not violation:
            return
        paths = tuple(dict.fromkeys(shared.path for shared in violation))
        others = tuple(dict.fromkeys(shared.other for shared in violation))
        graph_context = tuple(dict.fromkeys(s.other for s in violation if s.other_contains_model))
        frozen = len({shared.path for shared in violation if not shared.here})
        contains = f" ({some(graph_context)} contains this model)" if graph_context else ""
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(paths), 'BN layer')} also part of {some(others)}{contains} with the "
                f"opposite flag: {some(paths)}. Compiled here: {frozen} frozen, "
                f"{len(paths) - frozen} trainable. {inventory.stack}: "
                f"{READS[inventory.stack.flags]}."
            ),
            fix=(
                "set the flags of the shared layers before each model's step, and compile each "
                "model once with the flags that its step needs; or train both in one custom "
                "train_step with two optimizers"
            ),
            evidence={"others": others, "flags_read": inventory.stack.flags},
        )

    def skip_reason(self, inventory: Inventory) -> Optional[SkipReason]:
        if inventory.shared is None:
            return SkipReason(
                SkipKind.NOT_COLLECTED, f"other models are searched where {self.code} is selected"
            )
        return None


READS = {
    FlagTiming.COMPILE: "each model keeps the flags of its own compile()",
    FlagTiming.FIRST_STEP: "a model takes the flags of its first step, whoever set them last",
    FlagTiming.POSITIONAL: (
        "a flag set through the other model makes this model's step raise or mix weights"
    ),
    FlagTiming.IMMEDIATE: "a flag counts at once in both models, whoever set it last",
}
