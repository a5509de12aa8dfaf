"""BNG609: a callback assigned weights, and the moving statistics are those of other weights."""

from __future__ import annotations

from typing import Iterable, Optional

from keras_bnguard.records import (
    AssignedWeights,
    Inventory,
    RunFacts,
    Severity,
    SkipKind,
    SkipReason,
    Trigger,
)
from keras_bnguard.rules.base import AT_THE_END, Rule, Violation
from keras_bnguard.rules.text import after_line, count, recalibrate_code, some
from keras_bnguard.rules.thresholds import MIN_DISTANCE


class WeightsReplacedStatisticsNot(Rule):
    """A callback assigned weights, and the moving statistics of BN are those of other weights.

    What it checks:
        In `fit` with callbacks of your own: weights and moving statistics after the last step of
        an epoch, before and after all callbacks. A sample of the weights that the steps changed
        is compared, up to 16 kernels and 16 vectors.

    Why it matters:
        Averages over epochs (SWA, Polyak), Lookahead and partial restores assign what
        `trainable_variables` lists, and moving statistics are not among it. `predict` then
        normalises the activations of one network with the statistics of another. Averages of
        five epochs of a small CNN (SGD at 0.6) had a loss of 0.283 with torch and 0.054 with JAX,
        and of 0.022 and 0.012 with statistics of these weights.

    How it decides:
        When training has ended, weights differ from those of the last step by at least 0.05 of
        their norm, and no statistic of BN that trained has followed; the limit is that of
        BNG603. Or, after any epoch, statistics that training had updated are bit for bit those of
        an earlier moment of the run, and the weights that were assigned are not.

    Example:
        def on_train_end(self, logs=None):       # a callback that averages over epochs
            for variable, mean in zip(self.model.trainable_variables, self.means):
                variable.assign(mean)

    Fix:
        Recompute the statistics after the assignment. Where statistics are put back, assign the
        trainable variables alone.

    Known limits:
        Not certain: weights may be assigned on purpose, to take new statistics after `fit`; leave
        the rule out there with `ignore="BNG609"`. Silent where all weights of one moment are
        restored (EarlyStopping, a checkpoint), where any statistic followed (`Recalibrate`,
        averages of all weights), where values were only clipped or set to 0, where the optimizer
        keeps the average (BNG603), on weights that no step changes (a mean teacher), and in
        custom training loops. What is assigned at a batch is not seen.

    Source:
        Izmailov et al. 2018 (arXiv:1803.05407), section 3.2; keras-stochastic-weight-averaging
        issue 4.
    """

    code = "BNG609"
    name = "weights-replaced-statistics-not"
    severity = Severity.WARNING
    certain = False
    evaluated_at = AT_THE_END | {Trigger.ASSIGNMENT}

    def check(self, run: RunFacts, inventory: Inventory) -> Iterable[Violation]:
        found = run.assigned
        if found is None or not found.norms:
            return
        if found.put_back is None and (found.clipped or found.distance < MIN_DISTANCE):
            return
        yield Violation(
            layers=found.norms,
            message=_message(found, inventory),
            fix=_fix(found, inventory),
            evidence={
                "distance": found.distance,
                "put_back": None if found.put_back is None else found.put_back.phrase,
                "callbacks": found.callbacks,
                "limit": MIN_DISTANCE,
            },
            source=found.source,
        )

    def skip_reason(self, run: RunFacts) -> Optional[SkipReason]:
        if run.steps > 0:
            return None
        why = "it compares weights around the callbacks of fit, and no epoch of one has ended"
        return SkipReason(SkipKind.TOO_EARLY, why)


def _message(found: AssignedWeights, inventory: Inventory) -> str:
    norms = f"{count(len(found.norms), 'BN layer')} ({some(found.norms)})"
    who = some(found.callbacks) or "A callback"
    if found.put_back is not None:
        return (
            f"{who} put the moving statistics of {norms} back to those seen "
            f"{found.put_back.phrase}, with weights that are not those of that moment. What the "
            f"steps had updated is lost, and {inventory.stack} normalises with the old statistics "
            "in predict."
        )
    return (
        f"{who} assigned weights that are {100 * found.distance:.1f} % away from those of the last "
        f"step (limit {100 * MIN_DISTANCE:g} %). The moving statistics of {norms} belong to the "
        f"weights before, and {inventory.stack} normalises with them in predict."
    )


def _fix(found: AssignedWeights, inventory: Inventory) -> str:
    code = recalibrate_code(inventory)
    if found.put_back is None:
        return (
            "take the statistics of the assigned weights, "
            f"{after_line(inventory)} (or by bng.Recalibrate, last among the callbacks of fit):\n"
            f"{code}"
        )
    return (
        "assign what trains and leave the statistics alone (model.trainable_variables instead of "
        f"set_weights), and take the statistics of the weights that are there in the end, "
        f"{after_line(inventory)}:\n{code}"
    )
