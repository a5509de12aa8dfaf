"""BNG401: a BN still has mean 0 and variance 1 where it should carry trained statistics."""

from __future__ import annotations

from typing import Dict, Iterable, List, Optional, Sequence

from keras_bnguard.records import Inventory, MomentKind, NormLayer, RunFacts, Severity
from keras_bnguard.rules.base import Rule, Violation
from keras_bnguard.rules.predicates import called_with_false
from keras_bnguard.rules.text import by_container, count, some


class StatisticsNeverLoaded(Rule):
    """A BN has mean 0 and variance 1 where trained statistics are expected.

    What it checks:
        Built BN whose moving mean is all 0 and whose moving variance is all 1.

    Why it matters:
        Loading with `by_name` or `skip_mismatch`, a renamed layer, or `weights=None` leaves
        BN at its start values. Keras prints at most a count. The model then predicts at
        chance, and a frozen BN can never recover.

    How it decides:
        It fires on a BN at its start values that
        (1) must not update its statistics, by its flags or by `training=False` at all its calls; or
        (2) has a gamma or beta that differs between channels, as no new layer has, in a model that
        this process did not train before; or
        (3) is audited without training or forced into inference mode, and sits in a sub-model
        where at least half of the BN carry trained statistics; or
        (4) the same, directly in the model, between two BN that carry trained statistics.

    Example:
        model.load_weights("backbone.h5", by_name=True, skip_mismatch=True)

    Fix:
        Load strictly, copy the missing layers by hand, and check again with `bng.audit`.

    Known limits:
        Not certain: an untrained network that is frozen on purpose (random features) has the
        same facts. Silent for a trainable BN that has nothing loaded when training begins: it is
        new, wherever it sits, and becomes right as it trains. Silent for a model trained from
        scratch, for BN that only this package forces into inference mode, and for a frozen BN
        that another compiled model trains. (4) misses a BN before the first or after the last
        trained one, (3) a sub-model of which more than half was not loaded.

    Source:
        Measured on Keras 2.15, tf_keras 2.21 and Keras 3.15.1; keras issues 21404, 10265 and
        20524, tensorflow issue 34950.
    """

    code = "BNG401"
    name = "statistics-never-loaded"
    severity = Severity.ERROR
    certain = False

    def check(self, inventory: Inventory, run: Optional[RunFacts] = None) -> Iterable[Violation]:
        known = [n for n in inventory.norms if n.built and n.at_default is not None]
        violation: List[NormLayer] = []
        reasons: Dict[str, int] = {}
        for container, norms in by_container(known).items():
            for norm in norms:
                reason = _reason(norm, container, norms, inventory, run)
                if norm.at_default and reason:
                    violation.append(norm)
                    reasons[reason] = reasons.get(reason, 0) + 1
        if not violation:
            return
        paths = tuple(norm.path for norm in violation)
        trained = sum(norm.at_default is False for norm in known)
        counts = ", ".join(f"{number} {reason}" for reason, number in reasons.items())
        yield Violation(
            layers=paths,
            message=(
                f"{count(len(violation), 'BN layer')} at mean 0 and variance 1: {some(paths)} "
                f"({counts}; {trained} of {len(known)} BN in the model carry trained statistics). "
                f"{inventory.stack} {LOADS[inventory.stack.keras_major == 2]}."
            ),
            fix=(
                "load the file strictly (without by_name and skip_mismatch), or copy the weights "
                "of the layers from a model that has them (get_weights, set_weights); if they "
                "should be trained from scratch, unfreeze them and compile again"
            ),
            evidence={"reasons": reasons, "trained": trained, "norms": len(known)},
        )


LOADS = {
    True: "names what a load left out in a warning at most",
    False: "reports a partial load by a count, and does not name the BN",
}


def _reason(
    norm: NormLayer,
    container: str,
    norms: Sequence[NormLayer],
    inventory: Inventory,
    run: Optional[RunFacts],
) -> str:
    """Why trained statistics are expected; empty where they are not."""
    if norm.frozen and not _trained_elsewhere(norm, inventory) and not _frozen_for(norm, run):
        return "frozen"
    if not norm.frozen and called_with_false(norm):
        return "always called with training=False"
    if not norm.frozen and norm.affine_varies and not _trained_before(run):
        return "with loaded gamma or beta"
    trained = [other.position for other in norms if other.at_default is False]
    trains = run is not None and run.moment.kind is not MomentKind.AUDIT
    if norm.frozen or not trained or (trains and not norm.forced_inference):
        return ""
    if container:
        return "among trained BN of its sub-model" if 2 * len(trained) >= len(norms) else ""
    return "between trained BN" if min(trained) < norm.position < max(trained) else ""


def _trained_before(run: Optional[RunFacts]) -> bool:
    """Whether steps in this process may have made gamma and beta what they are."""
    if run is None:
        return False
    seen = run.steps > 0 or run.before is not None or run.optimizer_started > 0
    return seen or not run.calls_observable  # Such a loop is seen from its first update on.


def _frozen_for(norm: NormLayer, run: Optional[RunFacts]) -> bool:
    """Whether the flag was set for another model, which BNG110 reports."""
    changes = () if run is None else run.trainable_changes
    return any(change.path == norm.path and change.set_for is not None for change in changes)


def _trained_elsewhere(norm: NormLayer, inventory: Inventory) -> bool:
    paths = (norm.path, *norm.aliases)
    return any(shared.path in paths and shared.there for shared in inventory.shared or ())
