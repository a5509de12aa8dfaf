"""An end condition from a function of the user, and from what a phase gets as `until`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Union

from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases.conditions.base import EndCondition, Logs, Memory
from keras_bnguard.phases.conditions.named import KNOWN

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
