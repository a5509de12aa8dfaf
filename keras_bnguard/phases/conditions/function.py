"""An end condition from a function of the user, and from what a phase gets as `until`."""

from __future__ import annotations

import inspect
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

    Raises:
        ScheduleError: it does not take two arguments.
    """

    function: Function

    def __post_init__(self) -> None:
        try:
            signature = inspect.signature(self.function)
        except (TypeError, ValueError):  # Some that are written in C have none.
            return
        try:
            signature.bind(1, {})
        except TypeError:
            raise ScheduleError(
                f"until: {self._name}{signature} is called with (epochs in this phase, logs), "
                "and does not take these two arguments."
            ) from None

    def update(self, epochs: int, logs: Logs, memory: Memory) -> bool:
        try:
            return bool(self.function(epochs, dict(logs)))
        except Exception as error:
            raise ScheduleError(
                f"until: {self._name}({epochs}, logs) did not return True or False: "
                f"{type(error).__name__}: {error}. In the logs: {', '.join(sorted(logs))}."
            ) from error

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
