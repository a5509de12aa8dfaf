"""End conditions: what ends a phase before its epochs are over.

To add one, write its class here, list it in `CONDITIONS`, and export it in
`keras_bnguard/__init__.py`. YAML, the plan table, the state file and the checks follow from the
class; `tests/unit/phases/test_conditions.py` fails by name where a piece is missing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, fields
from typing import (
    Any,
    Callable,
    ClassVar,
    Dict,
    Mapping,
    MutableMapping,
    Optional,
    Tuple,
    Type,
    Union,
)

from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases.fields import Choice, Mode, arguments_of, choice, plain

Logs = Mapping[str, Any]
Memory = MutableMapping[str, Any]


@dataclass(frozen=True)
class EndCondition(ABC):
    """When a phase ends, judged after each of its epochs.

    A subclass is a frozen dataclass. Its fields are its arguments, of type str, int, float or
    bool, or a `choice`; their values are checked here. It does not change during training: what
    it needs from one epoch to the next goes into `memory`, a dict that is empty when the phase
    begins, that is written to the state file and contains plain JSON values.

    Attributes:
        key: its name in YAML.
        finds_best: it knows the best epoch of a phase, so `restore_best` can use it.
    """

    key: ClassVar[str] = ""
    finds_best: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for argument in arguments_of(type(self)):
            value = plain(getattr(self, argument.name))
            where = f"{type(self).__name__}: {argument.name}"
            if argument.choices is not None:
                value = argument.choices.parse(value, where)
            elif not argument.accepts(value):
                raise ScheduleError(f"{where}={value!r}, expected {argument.expected}.")
            object.__setattr__(self, argument.name, value)

    @property
    def monitored(self) -> Optional[str]:
        """The key of `logs` it reads, None for none in particular."""
        return None

    @abstractmethod
    def update(self, epochs: int, logs: Logs, memory: Memory) -> bool:
        """Judge one finished epoch.

        Args:
            epochs: finished epochs of this phase, this one included.
            logs: what Keras logged for the epoch.
            memory: what earlier calls of this phase kept; may be changed.

        Returns:
            Whether the phase is over.

        Raises:
            ScheduleError: `logs` lacks what the condition reads.
        """

    def improved(self, memory: Memory) -> bool:
        """Whether the epoch judged last is the best of its phase; False without `finds_best`."""
        return False

    @abstractmethod
    def describe(self) -> str:
        """When it ends a phase, in a few words for the plan table."""

    def as_dict(self) -> Dict[str, Any]:
        """The arguments that are not at their default, as plain values; `from_dict` reads them.

        Raises:
            ScheduleError: the condition cannot be written.
        """
        written = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.default is MISSING or value != each.default:
                written[each.name] = value.value if isinstance(value, Choice) else value
        return written

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EndCondition:
        """A condition from its arguments.

        Raises:
            ScheduleError: an argument is unknown or missing, or a value is not allowed.
        """
        known = {each.name: each.default is MISSING for each in fields(cls)}
        wrong = sorted(set(values) - set(known))
        wrong += [name for name, needed in known.items() if needed and name not in values]
        if wrong:
            raise ScheduleError(
                f"{cls.__name__}: {', '.join(wrong)} is unknown or missing; "
                f"it takes {', '.join(known)}."
            )
        return cls(**values)


@dataclass(frozen=True)
class MonitorCondition(EndCondition):
    """An end condition that reads one number of `logs`.

    Args:
        monitor: a key of `logs`.
    """

    monitor: str

    @property
    def monitored(self) -> Optional[str]:
        return self.monitor

    def read(self, logs: Logs) -> float:
        """The monitored number.

        Raises:
            ScheduleError: it is not in `logs`, which are listed, or it is several numbers.
        """
        if self.monitor not in logs:
            raise ScheduleError(
                f"{self.monitor!r} is not in the logs of this fit, and "
                f"{type(self).__name__} monitors it. "
                f"There are: {', '.join(sorted(logs)) or 'none'}."
            )
        value = logs[self.monitor]
        size = getattr(value, "size", 1)
        if size != 1:
            raise ScheduleError(
                f"{self.monitor!r} has {size} values an epoch, as a metric per class, and "
                f"{type(self).__name__} monitors it. Monitor one number: for F1Score pass "
                'average="macro".'
            )
        return float(value.item() if hasattr(value, "item") else value)


@dataclass(frozen=True)
class Plateau(MonitorCondition):
    """Ends a phase when a monitored value has not improved for `patience` epochs.

    Only epochs of the same phase are compared.

    Args:
        monitor: a key of `logs`. Defaults to "val_loss".
        patience: epochs without improvement, 1 or more. Defaults to 3.
        min_delta: smallest change that counts as an improvement. Defaults to 0.0.
        mode: "min", "max" or "auto": larger is better for names that end in acc, accuracy, auc,
            f1, score, precision or recall. Defaults to "auto".

    Raises:
        ScheduleError: a value is of another type, or not among those listed.
    """

    key: ClassVar[str] = "plateau"
    finds_best: ClassVar[bool] = True

    monitor: str = "val_loss"
    patience: int = 3
    min_delta: float = 0.0
    mode: str = choice(Mode.AUTO)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patience < 1:
            raise ScheduleError(f"Plateau: patience={self.patience!r}, expected 1 or more epochs.")

    def better(self, value: float, best: Optional[float]) -> bool:
        """Whether a value improves on the best so far.

        Args:
            value: of the epoch; NaN never improves.
            best: of the epochs before, None for the first.
        """
        if math.isnan(value):
            return False
        if best is None:
            return True
        if Mode(self.mode).larger_is_better(self.monitor):
            return value > best + self.min_delta
        return value < best - self.min_delta

    def update(self, epochs: int, logs: Logs, memory: Memory) -> bool:
        value = self.read(logs)
        if self.better(value, memory.get("best")):
            memory["best"], memory["wait"] = value, 0
        else:
            memory["wait"] = memory.get("wait", 0) + 1
        return bool(memory["wait"] >= self.patience)

    def improved(self, memory: Memory) -> bool:
        return memory.get("wait") == 0

    def describe(self) -> str:
        return f"{self.monitor} flat for {self.patience}"


@dataclass(frozen=True)
class Threshold(MonitorCondition):
    """Ends a phase when a monitored value reaches `value`.

    Args:
        monitor: a key of `logs`.
        value: the number to reach; NaN in `logs` reaches nothing.
        mode: "min" (reached at or below), "max" (reached at or above) or "auto", as in
            `Plateau`. Defaults to "auto".

    Raises:
        ScheduleError: a value is of another type, or not among those listed.
    """

    key: ClassVar[str] = "threshold"

    value: float
    mode: str = choice(Mode.AUTO)

    def update(self, epochs: int, logs: Logs, memory: Memory) -> bool:
        value = self.read(logs)
        return value >= self.value if self._larger else value <= self.value

    def describe(self) -> str:
        return f"{self.monitor} {'>=' if self._larger else '<='} {self.value:g}"

    @property
    def _larger(self) -> bool:
        return Mode(self.mode).larger_is_better(self.monitor)


CONDITIONS: Tuple[Type[EndCondition], ...] = (Plateau, Threshold)
"""Every end condition that can be written by name, in Python and in YAML."""

KNOWN = " or ".join(f"{each.__name__}(...)" for each in CONDITIONS)

Function = Callable[[int, Logs], bool]
Until = Union[EndCondition, Function]


@dataclass(frozen=True)
class FunctionCondition(EndCondition):
    """Ends a phase when a function of the user returns True.

    Args:
        function: called with the number of finished epochs of the phase and a copy of `logs`.
    """

    function: Function

    def __post_init__(self) -> None:
        pass

    def update(self, epochs: int, logs: Logs, memory: Memory) -> bool:
        return bool(self.function(epochs, dict(logs)))

    def describe(self) -> str:
        return f"{self._name}()"

    def as_dict(self) -> Dict[str, Any]:
        raise ScheduleError(
            f"the function {self._name} in until cannot be written as YAML. Use {KNOWN} "
            "instead, or keep this schedule in Python."
        )

    @property
    def _name(self) -> str:
        return str(getattr(self.function, "__name__", "function"))


def as_condition(until: Optional[Until]) -> Optional[EndCondition]:
    """The end condition for a phase's `until`; None for None.

    Raises:
        ScheduleError: it is neither a condition nor a function.
    """
    if until is None or isinstance(until, EndCondition):
        return until
    if callable(until) and not isinstance(until, type):
        return FunctionCondition(until)
    raise ScheduleError(
        f"until={until!r}, expected {KNOWN.replace(' or ', ', ')} or a function of "
        "(epochs in this phase, logs)."
    )
