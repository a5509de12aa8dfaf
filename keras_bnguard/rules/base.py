"""What a rule is: a class with a code, a doc in fixed headings, declarations and one `check`."""

from __future__ import annotations

import functools
import inspect
import textwrap
from dataclasses import dataclass, field
from enum import Enum
from typing import (
    Any,
    Callable,
    ClassVar,
    Dict,
    FrozenSet,
    Iterable,
    List,
    Mapping,
    Optional,
    Tuple,
)

from keras_bnguard.records import Severity, SkipReason, Trigger

HEADINGS = (
    "What it checks",
    "Why it matters",
    "How it decides",
    "Example",
    "Fix",
    "Known limits",
    "Source",
)


@dataclass(frozen=True)
class Violation:
    """What the `check` of a rule yields.

    Attributes:
        layers: paths of the BN layers or other layers it is about; empty for the whole model.
        message: one or two sentences with the measured numbers and what this stack does.
        fix: imperative, with code to paste.
        evidence: the numbers, by name.
        severity: where it differs from the severity of the rule. Defaults to None.
        source: "file.py:41" of the user's code that caused it. Defaults to None: not known.
    """

    layers: Tuple[str, ...]
    message: str
    fix: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    severity: Optional[Severity] = None
    source: Optional[str] = None


class RepairAction(Enum):
    """What `fix=True` does to the model; the guard knows how."""

    PUT_FLAGS_INTO_EFFECT = "the training step is built again with the present flags"
    FORCE_INFERENCE = "frozen BN layers are forced into inference mode"


@dataclass(frozen=True)
class Repair:
    """How `fix=True` repairs a finding.

    Attributes:
        action: what is done to the model.
        done: what a report prints when it is done. Defaults to "": the action describes it.
        updates: whether the BN of the finding are updated after it, so that a repair after which
            none of them changes is not claimed. Defaults to False.
    """

    action: RepairAction
    done: str = ""
    updates: bool = False


class ExpensiveFact(Enum):
    """A fact that is only collected where a selected rule wants it."""

    SHARED_MODELS = "other compiled models with the same BN: a walk over all objects"
    BLOCKS = "the residual blocks of the graph"
    WEIGHT_DECAY = "which gamma and beta the optimizer decays"


def parameters(method: Callable[..., Any]) -> Tuple[Tuple[str, bool], ...]:
    """The facts that a method of a rule takes: (field of `Facts`, whether it is required)."""
    # Of the function, not of the method of one object: those are new at every evaluation.
    return _parameters(getattr(method, "__func__", method))


@functools.cache
def _parameters(function: Callable[..., Any]) -> Tuple[Tuple[str, bool], ...]:
    taken = inspect.signature(function).parameters.values()
    return tuple(
        (each.name, each.default is each.empty)
        for each in taken
        if each.name != "self" and each.kind is each.POSITIONAL_OR_KEYWORD
    )


ON_SNAPSHOT: FrozenSet[Trigger] = frozenset({Trigger.SNAPSHOT})
ON_CHANGE = ON_SNAPSHOT | {Trigger.CHANGE}
AT_EVERY_CHECK = ON_CHANGE | {Trigger.CHECK}
AT_THE_END = ON_SNAPSHOT | {Trigger.TRAINING_END}


class Rule:
    """Base of all rules; a subclass is one file and is listed in `rules.ALL_RULES`.

    Attributes:
        code: "BNG101"; never given to another rule.
        name: kebab-case; names the pattern found, not the cure.
        severity: how bad a violation is, where the violation itself has no other severity.
        certain: it has no false positive. Any other rule documents where it stays silent.
        evaluated_at: what makes the rule run. Defaults to `ON_SNAPSHOT`. A rule that reads
            `RunFacts.statistics_changes` needs more: they are empty at `Trigger.CHECK`.
        repair: what `fix=True` does about it. Defaults to None: nothing.
        consequence_of: codes of rules whose findings explain this one, the nearest cause first.
        wants: facts that are only collected where this rule is selected. Defaults to none.
        over_all_fits: a later `fit` of the same model decides for the earlier ones too. Defaults to
            False.
        needs_calls: it cannot be judged unless the guard can see how each BN is called.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[Severity]
    certain: ClassVar[bool] = True
    evaluated_at: ClassVar[FrozenSet[Trigger]] = ON_SNAPSHOT
    repair: ClassVar[Optional[Repair]] = None
    consequence_of: ClassVar[Tuple[str, ...]] = ()
    wants: ClassVar[FrozenSet[ExpensiveFact]] = frozenset()
    over_all_fits: ClassVar[bool] = False
    needs_calls: ClassVar[bool] = False

    def check(self, *args: Any, **facts: Any) -> Iterable[Violation]:
        """Yield a violation per fault; nothing where all is well. The facts stay as they are.

        A rule takes the facts it needs as keyword parameters, named as the fields of `Facts`:
        `check(self, inventory: Inventory, run: Optional[RunFacts] = None)`. It is skipped where
        a parameter without a default has no fact.
        """
        raise NotImplementedError

    def skip_reason(self, *args: Any, **facts: Any) -> Optional[SkipReason]:
        """Why the facts do not suffice, though they are there; None where they do.

        Takes facts as `check` does. A rule that yields no violation and returns a reason here
        ends as *skipped*, it does not pass.
        """
        return None

    @classmethod
    def needs(cls) -> Tuple[str, ...]:
        """The fields of `Facts` without which the rule is skipped, as `check` names them."""
        return tuple(name for name, required in parameters(cls.check) if required)

    @classmethod
    def title(cls) -> str:
        """First line of the doc."""
        return inspect.cleandoc(cls.__doc__ or "").split("\n", 1)[0]

    @classmethod
    def sections(cls) -> Mapping[str, str]:
        """The doc under each of `HEADINGS`, in order."""
        found: Dict[str, List[str]] = {}
        current = None
        for line in inspect.cleandoc(cls.__doc__ or "").split("\n")[1:]:
            if line.rstrip(":") in HEADINGS and line.endswith(":"):
                current = line.rstrip(":")
                found[current] = []
            elif current is not None:
                found[current].append(line)
        return {h: textwrap.dedent("\n".join(t)).strip() for h, t in found.items()}
