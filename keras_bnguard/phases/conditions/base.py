"""What an end condition is; what those that read one number of `logs` share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Dict, Mapping, MutableMapping, Optional

from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases.fields import Choice, arguments_of, plain

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
        number = value.item() if hasattr(value, "item") else value
        try:
            return float(number)
        except (TypeError, ValueError):
            raise ScheduleError(
                f"{self.monitor!r} is {number!r} in the logs, which is no number, and "
                f"{type(self).__name__} monitors it."
            ) from None
