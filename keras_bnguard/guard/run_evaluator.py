"""Evaluates the rules on what is known of a run so far."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Optional

from keras_bnguard.guard.fact_collector import FactCollector
from keras_bnguard.guard.rule_runner import RuleRunner
from keras_bnguard.guard.run_kinds import RunKind
from keras_bnguard.guard.tracking.trackers import Trackers
from keras_bnguard.records import DataFacts, Moment, RunFacts, Trigger
from keras_bnguard.rules.evaluate import RuleFilter


class RunEvaluator:
    """The facts of a run, its progress, and its rules.

    Args:
        model: the model.
        kind: a run of `fit` or of a custom training loop.
        rule_filter: what the user selected and ignored.
        before_step: called before a step of the model that was armed for.

    Attributes:
        kind: see above.
        rules: the rules with what they found.
        facts: collects the facts.
        progress: what only the run knows: epoch, steps, what happened.
    """

    def __init__(
        self,
        model: Any,
        kind: RunKind,
        rule_filter: RuleFilter,
        before_step: Callable[[], None],
    ) -> None:
        self.kind = kind
        self.rules = RuleRunner(rule_filter)
        self.facts = FactCollector(model, kind, rule_filter, before_step)
        self.progress = RunFacts()

    @property
    def trackers(self) -> Trackers:
        """The trackers of the present phase."""
        return self.facts.trackers

    def note(self, **progress: Any) -> None:
        """Put new values into fields of `progress`."""
        self.progress = replace(self.progress, **progress)

    def evaluate(
        self,
        trigger: Trigger,
        moment: Moment,
        data: Optional[DataFacts] = None,
        corrupts: bool = False,
    ) -> None:
        """Evaluate the rules of a trigger.

        Args:
            trigger: what makes them run.
            moment: when.
            data: what was measured on data just now. Defaults to None.
            corrupts: whether a change of `trainable` right now would corrupt values. Defaults
                to False.
        """
        run = replace(self.progress, moment=moment)
        facts = self.facts.collect(run, trigger, data, corrupts)
        if trigger is Trigger.SNAPSHOT:
            self.trackers.snapshots.mark_evaluated()
        self.rules.run(trigger, facts)

    def end_inference(self) -> None:
        """An inference pass has ended: evaluate the rules about it, where it showed something."""
        seen = self.trackers.inference.end()
        if seen is not None:
            self.evaluate(Trigger.INFERENCE, seen.moment)

    def check_flags(self, moment: Moment, corrupts: bool = False) -> None:
        """Evaluate the rules about changed flags alone, where they can find anything."""
        if corrupts or self.kind.must_check_flags(self.trackers):
            self.evaluate(Trigger.TRAINABLE_CHANGE, moment, corrupts=corrupts)
