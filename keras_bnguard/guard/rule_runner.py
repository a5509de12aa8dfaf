"""Evaluates rules at the moments of a run and keeps how each of them ended."""

from __future__ import annotations

from typing import Set, Tuple

from keras_bnguard.guard.finding_queue import FindingQueue
from keras_bnguard.records import Facts, Outcome, Trigger
from keras_bnguard.rules import ALL_RULES
from keras_bnguard.rules.evaluate import RuleFilter, evaluate, merge_outcomes, rules_at


class RuleRunner:
    """The rules of one run. A rule fires once in a phase.

    Args:
        rule_filter: what the user selected and ignored.

    Attributes:
        findings: what was found.
        outcomes: how every rule has ended so far.
    """

    def __init__(self, rule_filter: RuleFilter) -> None:
        self._filter = rule_filter
        self._fired: Set[str] = set()
        self.findings = FindingQueue()
        self.outcomes: Tuple[Outcome, ...] = ()

    def run(self, trigger: Trigger, facts: Facts) -> None:
        """Evaluate the rules of a trigger; at `Trigger.SNAPSHOT` these are all rules."""
        rules = ALL_RULES if trigger is Trigger.SNAPSHOT else rules_at(trigger)
        found, outcomes = evaluate(facts, rules, self._filter, self._fired)
        self.outcomes = merge_outcomes(self.outcomes, outcomes)
        self._fired.update(finding.code for finding in found)
        self.findings.add(found)

    def can_fire(self, trigger: Trigger) -> bool:
        """Whether a rule of a trigger that is not a check has not fired in this phase."""
        return any(rule.code not in self._fired for rule in rules_at(trigger))

    def forget(self, trigger: Trigger) -> None:
        """Let the rules of a trigger fire again."""
        self._fired.difference_update(rule.code for rule in rules_at(trigger))

    def begin_phase(self) -> None:
        """Let every rule fire again."""
        self._fired.clear()
