"""End conditions that have a name, in Python and in YAML.

To add one, write its class here, list it in `CONDITIONS`, and export it in
`keras_bnguard/__init__.py`. YAML, the plan table, the state file and the checks follow from the
class; `tests/unit/phases/test_conditions.py` fails by name where a piece is missing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Optional, Tuple, Type

from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases.conditions.base import EndCondition, Logs, Memory, MonitorCondition
from keras_bnguard.phases.fields import Mode, choice


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
