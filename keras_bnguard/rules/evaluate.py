"""Run the rules over the facts: which rules, what the user ignores, how each rule ended."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import (
    Any,
    Callable,
    Collection,
    Dict,
    FrozenSet,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Type,
    Union,
)

from keras_bnguard.errors import SettingError
from keras_bnguard.records import (
    AUDIT,
    FACT_DESCRIPTIONS,
    Facts,
    Finding,
    Inventory,
    Outcome,
    OutcomeStatus,
    Severity,
    SkipKind,
    SkipReason,
    Trigger,
)
from keras_bnguard.rules import ALL_RULES, BY_CODE
from keras_bnguard.rules.base import ExpensiveFact, Repair, Rule, Violation, parameters
from keras_bnguard.rules.line_ignores import is_ignored_at
from keras_bnguard.selectors import path_matches
from keras_bnguard.settings import check_codes

Ignore = Union[None, str, Sequence[str], Mapping[str, Union[str, Sequence[str]]]]
Select = Union[None, str, Sequence[str]]


@dataclass(frozen=True)
class RuleFilter:
    """What the user selected and ignored.

    select: codes or prefixes to run; None runs all but the info rules, "ALL" runs all.
    ignore: code or prefix -> layer globs, empty globs mean everywhere.
    """

    select: Optional[Tuple[str, ...]] = None
    ignore: Tuple[Tuple[str, Tuple[str, ...]], ...] = ()

    @classmethod
    def of(cls, select: Select = None, ignore: Ignore = None) -> RuleFilter:
        """Read the user's `select` and `ignore`.

        Args:
            select: a code, a prefix ("BNG2"), "ALL", or several of those.
            ignore: codes or prefixes to leave out, or a mapping from one to layer globs.

        Raises:
            SettingError: a name that is no code and no prefix of one.
        """
        chosen = None if select is None else _names("select", select)
        if isinstance(ignore, Mapping):
            ignored = tuple(
                (code, (globs,) if isinstance(globs, str) else _names("ignore", globs))
                for code, globs in zip(_names("ignore", list(ignore)), ignore.values())
            )
        else:
            ignored = tuple(
                (code, ()) for code in ([] if ignore is None else _names("ignore", ignore))
            )
        _check_codes("select", chosen or ())
        _check_codes("ignore", tuple(code for code, _ in ignored))
        return cls(chosen, ignored)

    def selects(self, rule: Type[Rule]) -> bool:
        """Whether a rule is to run at all."""
        if self.select is None:
            return rule.severity is not Severity.INFO
        return any(name == "ALL" or rule.code.startswith(name) for name in self.select)

    def names(self, code: str) -> bool:
        """Whether the user asked for a rule by its code or a prefix, or for all."""
        return self.select is not None and any(
            name == "ALL" or code.startswith(name) for name in self.select
        )

    def keep(
        self, rule: Type[Rule], layers: Sequence[str], inventory: Optional[Inventory]
    ) -> Tuple[str, ...]:
        """The layers of a violation that are not ignored under any of their paths."""
        model = inventory.model if inventory else ""
        paths = {n.path: (n.path, *n.aliases) for n in (inventory.norms if inventory else ())}
        kept = list(layers)
        for code, globs in self.ignore:
            if not rule.code.startswith(code):
                continue
            if not globs:
                return ()
            ignored = {
                path
                for path in kept
                if any(path_matches(g, p, model) for p in paths.get(path, (path,)) for g in globs)
            }
            kept = [path for path in kept if path not in ignored]
        return tuple(kept)

    def ignores_everywhere(self, rule: Type[Rule]) -> bool:
        """Whether a rule is ignored for all layers."""
        return any(rule.code.startswith(code) and not globs for code, globs in self.ignore)


@functools.cache
def rules_at(trigger: Trigger) -> Tuple[Type[Rule], ...]:
    """The rules that are evaluated at a trigger, in code order."""
    return tuple(rule for rule in ALL_RULES if trigger in rule.evaluated_at)


def wanted_facts(rule_filter: RuleFilter) -> FrozenSet[ExpensiveFact]:
    """The expensive facts that the selected rules want."""
    selected = (rule for rule in ALL_RULES if rule_filter.selects(rule))
    return frozenset(fact for rule in selected for fact in rule.wants)


def repair_of(code: str) -> Optional[Repair]:
    """What `fix=True` does about a finding of a rule; None where it does nothing."""
    rule = BY_CODE.get(code)
    return None if rule is None else rule.repair


def evaluate(
    facts: Facts,
    rules: Sequence[Type[Rule]] = ALL_RULES,
    rule_filter: Optional[RuleFilter] = None,
    fired: Collection[str] = (),
) -> Tuple[Tuple[Finding, ...], Tuple[Outcome, ...]]:
    """Run rules over facts.

    Args:
        facts: what is known. A rule that needs a missing fact is skipped, it never passes.
        rules: the rules, in code order. Defaults to all rules.
        rule_filter: what the user selected and ignored. Defaults to the rules that are no info.
        fired: codes that fired before in this run and phase; they do not fire again.

    Returns:
        The findings in code order, and one outcome for every rule. A rule that raises is
        skipped with its exception as the reason, so that its bug never ends a training.
    """
    rule_filter = rule_filter or RuleFilter()
    findings: List[Finding] = []
    outcomes: List[Outcome] = []
    for rule in rules:
        why = _not_evaluated(rule, facts, rule_filter, fired)
        if why is not None:
            outcomes.append(Outcome.skipped(rule.code, why))
        elif rule.code in fired:
            outcomes.append(Outcome(rule.code, OutcomeStatus.FIRED))
        else:
            found, outcome = _run(rule, facts, rule_filter)
            findings += found
            outcomes.append(outcome)
    return tuple(findings), tuple(outcomes)


def check(rule: Type[Rule], facts: Facts) -> Tuple[Violation, ...]:
    """The violations that a rule finds in facts that it needs and that are there."""
    method = rule().check
    return tuple(method(**_taken(method, facts)))


def skip_reason(rule: Type[Rule], facts: Facts) -> Optional[SkipReason]:
    """Why a rule cannot judge facts that are there; None where it can."""
    method = rule().skip_reason
    return method(**_taken(method, facts))


def _taken(method: Callable[..., Any], facts: Facts) -> Dict[str, Any]:
    return {name: getattr(facts, name) for name, _ in parameters(method)}


def _not_evaluated(
    rule: Type[Rule], facts: Facts, rule_filter: RuleFilter, fired: Collection[str]
) -> Optional[SkipReason]:
    if not rule_filter.selects(rule):
        if rule_filter.select is None:
            return SkipReason(SkipKind.INFO_NOT_SELECTED, "info, select it to see it")
        return SkipReason(SkipKind.NOT_SELECTED, "not selected")
    if rule.code in fired:
        return None
    missing = [name for name in rule.needs() if not facts.has(name)]
    if missing:
        words = "; ".join(_words(name, facts) for name in missing)
        return SkipReason(SkipKind.MISSING_FACT, words)
    if rule.needs_calls and facts.run is not None and not facts.run.calls_observable:
        return SkipReason(SkipKind.CALLS_NOT_OBSERVABLE, "how each BN was called could not be seen")
    return None


def _words(name: str, facts: Facts) -> str:
    if name == "data" and facts.data is not None and facts.data.unreadable:
        return facts.data.unreadable
    return f"needs {FACT_DESCRIPTIONS[name]}"


def _run(rule: Type[Rule], facts: Facts, rule_filter: RuleFilter) -> Tuple[List[Finding], Outcome]:
    try:
        violations = check(rule, facts)
        why = None if violations else skip_reason(rule, facts)
    except Exception as error:
        failed = f"the rule failed: {type(error).__name__}: {error}"
        return [], Outcome.skipped(rule.code, SkipReason(SkipKind.RULE_FAILED, failed))
    if why is not None:
        return [], Outcome.skipped(rule.code, why)
    if not violations:
        return [], Outcome(rule.code, OutcomeStatus.PASSED)
    found = []
    for violation in violations:
        line = facts.inventory.user_code.line if facts.inventory else None
        if is_ignored_at(rule.code, (violation.source, line)):
            continue
        kept = rule_filter.keep(rule, violation.layers, facts.inventory)
        if kept or (not violation.layers and not rule_filter.ignores_everywhere(rule)):
            found.append(_finding(rule, violation, kept, facts))
    if not found:
        ignored = f"{len(violations)} ignored by your settings"
        return [], Outcome(rule.code, OutcomeStatus.IGNORED, ignored)
    return found, Outcome(rule.code, OutcomeStatus.FIRED)


def _finding(
    rule: Type[Rule], violation: Violation, layers: Tuple[str, ...], facts: Facts
) -> Finding:
    return Finding(
        code=rule.code,
        name=rule.name,
        severity=violation.severity or rule.severity,
        layers=layers,
        message=violation.message,
        fix=violation.fix,
        evidence=dict(violation.evidence),
        moment=facts.run.moment if facts.run else AUDIT,
        source=violation.source,
    )


def merge_outcomes(before: Sequence[Outcome], now: Sequence[Outcome]) -> Tuple[Outcome, ...]:
    """One outcome per rule over several checks: fired, ignored, passed, skipped, in that order."""
    best = {outcome.code: outcome for outcome in before}
    for outcome in now:
        old = best.get(outcome.code)
        if old is None or _RANK[outcome.status] >= _RANK[old.status]:
            best[outcome.code] = outcome
    return tuple(best[code] for code in sorted(best))


_RANK = {
    OutcomeStatus.SKIPPED: 0,
    OutcomeStatus.PASSED: 1,
    OutcomeStatus.IGNORED: 2,
    OutcomeStatus.FIRED: 3,
}


def _check_codes(argument: str, names: Tuple[str, ...]) -> None:
    try:
        check_codes(names)
    except SettingError as error:
        raise SettingError(f"{argument}: {error}") from None


def _names(argument: str, value: Any) -> Tuple[str, ...]:
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    listed = tuple(value) if isinstance(value, Iterable) else ()
    if not isinstance(value, Iterable) or not all(isinstance(name, str) for name in listed):
        more = ", or a mapping from one to layer globs" if argument == "ignore" else ""
        raise SettingError(f"{argument}={value!r}: expected rule codes or prefixes as text{more}.")
    return listed
