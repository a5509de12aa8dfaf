"""Values a schedule is written with: choices of a few names, numbers, and their checks."""

from __future__ import annotations

import math
import numbers
from dataclasses import MISSING, field, fields
from enum import Enum
from typing import Any, Iterator, NamedTuple, Optional, Type, TypeVar, get_type_hints

from keras_bnguard.errors import ScheduleError

AnyChoice = TypeVar("AnyChoice", bound="Choice")


class Choice(str, Enum):
    """One of a few names. Each member equals its plain string, which is what users write."""

    @classmethod
    def parse(cls: Type[AnyChoice], value: Any, where: str) -> AnyChoice:
        """The member with this value.

        Args:
            value: a string, or a member.
            where: what the value was given for, as it stands at the start of the error.

        Raises:
            ScheduleError: there is no such member; lists those there are.
        """
        for member in cls:
            if isinstance(value, str) and value == member.value:
                return member
        known = ", ".join(repr(member) for member in cls)
        raise ScheduleError(f"{where}={value!r}, expected one of {known}.")

    def __repr__(self) -> str:
        return repr(self.value)

    def __str__(self) -> str:
        return str(self.value)


class BatchNormMode(Choice):
    """How BN runs in a phase; `Phase` explains each."""

    INFERENCE = "inference"
    TRAIN = "train"
    AFFINE_ONLY = "affine-only"
    FOLLOW = "follow"


class OptimizerState(Choice):
    """What becomes of the optimizer's state variables when a phase begins."""

    CARRY = "carry"
    RESET = "reset"


class CacheFeatures(Enum):
    """Which phases `PhaseScheduler.fit` trains on features."""

    AUTO = "auto"
    REQUIRED = True
    NEVER = False

    @classmethod
    def parse(cls, value: Any) -> CacheFeatures:
        """The member with this value.

        Raises:
            ScheduleError: there is none.
        """
        for member in cls:
            if member is value or (type(value) is type(member.value) and value == member.value):
                return member
        raise ScheduleError(f"cache_features={value!r}, expected 'auto', True or False.")


class Mode(Choice):
    """Which values of a monitored metric are better."""

    MIN = "min"
    MAX = "max"
    AUTO = "auto"

    def larger_is_better(self, monitor: str) -> bool:
        """Whether larger values are better; "auto" decides by the name of the metric.

        Args:
            monitor: a key of `logs`.
        """
        if self is not Mode.AUTO:
            return self is Mode.MAX
        endings = ("acc", "accuracy", "auc", "f1", "score", "precision", "recall")
        return monitor.lower().endswith(endings)


def choice(default: Choice) -> Any:
    """A dataclass field whose value is a member of the class of its default."""
    return field(default=default, metadata={"choices": type(default)})


def plain(value: Any) -> Any:
    """A NumPy number as Python's own; anything else as it is."""
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def is_number(value: Any) -> bool:
    """Whether it is a Python number; a bool is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether it is a Python integer; a bool is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_positive(value: Any) -> bool:
    """Whether it is a positive finite number."""
    return is_number(value) and math.isfinite(value) and value > 0


class Argument(NamedTuple):
    """One argument of a dataclass that users write.

    Attributes:
        name: of the argument.
        type: str, int, float or bool.
        choices: the values it may have, None for any of its type.
        needed: it has no default.
    """

    name: str
    type: type
    choices: Optional[Type[Choice]]
    needed: bool

    def accepts(self, value: Any) -> bool:
        """Whether the value is of the argument's type."""
        if self.type is float:
            return is_number(value) and not math.isnan(value)
        if self.type is str:
            return isinstance(value, str) and bool(value)
        return is_whole(value) if self.type is int else isinstance(value, self.type)

    @property
    def expected(self) -> str:
        """What its value has to be, for an error."""
        names = {float: "a number", int: "a whole number", bool: "True or False"}
        return names.get(self.type, "a text")


def arguments_of(written: type) -> Iterator[Argument]:
    """The arguments of a dataclass, in order.

    Args:
        written: its fields are of type str, int, float or bool, or a `choice`.
    """
    hints = get_type_hints(written)
    for each in fields(written):
        choices = each.metadata.get("choices")
        yield Argument(each.name, hints[each.name], choices, each.default is MISSING)
