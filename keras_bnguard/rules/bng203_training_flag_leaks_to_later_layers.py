"""BNG203: `training=False` at one call also reaches BN that are called later."""

from __future__ import annotations

from typing import Iterable, List, Optional

from keras_bnguard.records import (
    CallSite,
    Inventory,
    NormLayer,
    RunFacts,
    Severity,
    SkipReason,
    Trigger,
)
from keras_bnguard.rules.base import ON_CHANGE, Repair, RepairAction, Rule, Violation
from keras_bnguard.rules.predicates import expects_inference, no_step_observed, sites_of
from keras_bnguard.rules.text import count, some


class TrainingFlagLeaksToLaterLayers(Rule):
    """An explicit `training=False` at one call switches off later BN that were given nothing.

    What it checks:
        In a real training step: the `training` value that arrived at each BN, and which call
        it came from.

    Why it matters:
        Keras 3 keeps one value for the whole call. After `self.base(x, training=False)` it is
        False for everything that follows in the same `call`: the head's BN never updates its
        statistics and its Dropout is off, while gamma and beta train.

    How it decides:
        A BN that is meant to train was given no `training` of its own, got False, and that
        False was written at the call of an earlier layer. Seen, not guessed. Certain.

    Example:
        def call(self, x, training=None):
            x = self.base(x, training=False)
            return self.head_bn(x)              # runs in inference mode

    Fix:
        Pass `training=training` to every call after it, or freeze the base by its flag and
        drop the argument.

    Known limits:
        Needs one observed training step. Silent where every call has an argument of its own.

    Source:
        Measured on Keras 3.3.3 to 3.15.1 (subclassed `call`) and on Keras master (functional
        graphs too); keras pull requests 23166 and 23364.
    """

    code = "BNG203"
    name = "training-flag-leaks-to-later-layers"
    severity = Severity.ERROR
    evaluated_at = ON_CHANGE | {Trigger.LEAK}
    repair = Repair(
        RepairAction.FORCE_INFERENCE,
        "the argument is kept from layers called later for this fit",
        updates=True,
    )

    def check(self, inventory: Inventory, run: RunFacts) -> Iterable[Violation]:
        if not run.called:
            return
        violation: List[NormLayer] = []
        leaks: List[CallSite] = []
        for norm in inventory.norms:
            found = [site for site in sites_of(run, norm) if _leaks(site)]
            if found and not expects_inference(norm):
                violation.append(norm)
                leaks += found
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        sources = tuple(dict.fromkeys(site.leaked_from or "" for site in leaks))
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'BN layer')} in inference mode through training=False at "
                f"{some(sources)}: {some(paths)}. {inventory.stack} propagates that value to "
                "layers called later without one, so they do not update their statistics."
            ),
            fix=(
                "in `call`, give every later call its own argument, "
                "`self.head(x, training=training)`; or leave the argument of "
                f"{some(sources)} out, freeze that layer by its flag and compile again"
            ),
            evidence={"leaked_from": sources, "calls": len(leaks)},
        )

    def skip_reason(self, run: RunFacts) -> Optional[SkipReason]:
        return no_step_observed(run)


def _leaks(site: CallSite) -> bool:
    return site.leaked_from is not None and not site.arrived
