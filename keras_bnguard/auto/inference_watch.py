"""Watches one `evaluate` or `predict` that no `fit` is around."""

from __future__ import annotations

from typing import Any, Optional

from keras_bnguard.guard.rule_runner import RuleRunner
from keras_bnguard.guard.tracking.inference_tracker import InferenceTracker
from keras_bnguard.model.expected_mode import modes
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.records import Facts, Moment, RunFacts, Trigger
from keras_bnguard.report.report import Report
from keras_bnguard.rules.evaluate import RuleFilter


class InferenceWatch:
    """One pass over one model, from the making of this object until `finish`.

    Args:
        model: the model.
        moment: which pass it is.
        rule_filter: what the user selected and ignored.
    """

    def __init__(self, model: Any, moment: Moment, rule_filter: RuleFilter) -> None:
        self._snapshot = take_snapshot(model)
        self._rules = RuleRunner(rule_filter)
        self._tracker = InferenceTracker(self._snapshot)
        if self._snapshot.handles:
            self._tracker.begin(moment)

    def finish(self) -> Optional[Report]:
        """The pass has ended, or was left by an exception.

        Returns:
            A report where something was found.
        """
        seen = self._tracker.end()
        if seen is None:
            return None
        inventory = self._snapshot.inventory
        facts = Facts(inventory, run=RunFacts(moment=seen.moment, inference=seen))
        self._rules.run(Trigger.INFERENCE, facts)
        found = self._rules.findings.all()
        if not found:
            return None
        return Report(
            model=inventory.model,
            stack=inventory.stack,
            findings=found,
            outcomes=self._rules.outcomes,
            modes=modes(inventory),
            weights=inventory.weights,
        )
