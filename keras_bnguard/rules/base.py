"""What a rule is: a class with a code, a doc in fixed headings, its needs and one `check`."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any, ClassVar, Iterable, Mapping, Optional, Sequence, Tuple

from keras_bnguard.records import Facts

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
class Hit:
    """What a rule's `check` yields: the layers, the numbers and what to type.

    message: one or two sentences with the measured numbers and what this stack does.
    fix: imperative, with code to paste. severity: only where it differs from the rule's.
    """

    layers: Tuple[str, ...]
    message: str
    fix: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    severity: Optional[str] = None
    source: Optional[str] = None


class Rule:
    """Base of all rules; a subclass is one file and is listed in `rules.ALL_RULES`.

    Attributes:
        code: "BNG101", never reused. name: kebab-case, names the pattern found, not the cure.
        severity: "error", "warning" or "info".
        needs: which parts of `Facts` it looks at: "A", "O", "R", "P", "H".
        certain: it has no false positive; every other rule says where it stays silent.
        repairable: `fix=True` repairs it.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[str]
    needs: ClassVar[Tuple[str, ...]]
    certain: ClassVar[bool] = True
    repairable: ClassVar[bool] = False

    def check(self, facts: Facts) -> Iterable[Hit]:
        """Yield a hit per fault; nothing where all is well. Must not change the facts."""
        raise NotImplementedError

    @classmethod
    def title(cls) -> str:
        """First line of the doc."""
        return inspect.cleandoc(cls.__doc__ or "").split("\n", 1)[0]

    @classmethod
    def sections(cls) -> Mapping[str, str]:
        """The doc under each of `HEADINGS`, in order."""
        found: dict[str, list[str]] = {}
        current = None
        for line in inspect.cleandoc(cls.__doc__ or "").split("\n")[1:]:
            if line.rstrip(":") in HEADINGS and line.endswith(":"):
                current = line.rstrip(":")
                found[current] = []
            elif current is not None:
                found[current].append(line)
        return {h: inspect.cleandoc("\n".join(t)).strip() for h, t in found.items()}


def count(number: int, noun: str) -> str:
    """`1 layer`, `2 layers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def some(paths: Sequence[str], limit: int = 3) -> str:
    """The first few paths and how many more: `a, b, c (+4 more)`."""
    head = ", ".join(paths[:limit])
    return head if len(paths) <= limit else f"{head} (+{len(paths) - limit} more)"
