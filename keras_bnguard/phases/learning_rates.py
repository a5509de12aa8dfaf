"""The learning rate of a phase: kept, a number, a factor, a schedule; and its decay by depth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, Mapping, Optional, Tuple

from keras_bnguard.errors import ScheduleError
from keras_bnguard.model.blocks.finder import find_blocks
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.phases.fields import is_positive, plain

Cell = Tuple[Optional[float], str]
"""A learning rate where it is known, and what the plan table shows where it is not."""


class LearningRateChange(ABC):
    """What a phase does to the learning rate.

    Attributes:
        changes: it does anything at all.
        sets_number: it assigns a number, which replaces a `LearningRateSchedule`.
        needs_previous: it starts from the learning rate of the phase before.
    """

    changes: ClassVar[bool] = True
    sets_number: ClassVar[bool] = False
    needs_previous: ClassVar[bool] = False

    @property
    def schedule(self) -> Optional[Any]:
        """The `LearningRateSchedule` it starts, None for none."""
        return None

    @property
    def by_optimizer(self) -> Mapping[str, float]:
        """Attribute of the model -> learning rate of the optimizer in it; empty for none."""
        return {}

    def at_start(self, previous: Optional[float]) -> Optional[float]:
        """The number to assign when the phase begins, None where none is assigned.

        Args:
            previous: the learning rate the phase before ended with, None where it is not known.
        """
        return None

    def uses_schedule(self, before: bool) -> bool:
        """Whether a `LearningRateSchedule` gives the learning rate in this phase.

        Args:
            before: whether one did in the phase before.
        """
        return False

    @abstractmethod
    def in_plan(self, previous: Cell) -> Cell:
        """The learning rate in the plan table, from that of the phase before."""

    @abstractmethod
    def as_plain(self) -> Any:
        """Its form in YAML.

        Raises:
            ScheduleError: it cannot be written.
        """


class KeptLearningRate(LearningRateChange):
    """The learning rate stays as it is; a schedule goes on."""

    changes: ClassVar[bool] = False

    def uses_schedule(self, before: bool) -> bool:
        return before

    def in_plan(self, previous: Cell) -> Cell:
        return previous

    def as_plain(self) -> Any:
        return None


@dataclass(frozen=True)
class FixedLearningRate(LearningRateChange):
    """A number."""

    value: float
    sets_number: ClassVar[bool] = True

    def at_start(self, previous: Optional[float]) -> Optional[float]:
        return float(self.value)

    def in_plan(self, previous: Cell) -> Cell:
        return float(self.value), ""

    def as_plain(self) -> Any:
        return self.value


@dataclass(frozen=True)
class RelativeRate(LearningRateChange):
    """A factor of the learning rate the phase before ended with.

    Args:
        factor: positive and finite.

    Raises:
        ScheduleError: the factor is not positive and finite.
    """

    factor: float
    key: ClassVar[str] = "relative_rate"
    sets_number: ClassVar[bool] = True
    needs_previous: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", plain(self.factor))
        if not is_positive(self.factor):
            raise ScheduleError(
                f"RelativeRate(factor={self.factor!r}): expected a positive factor."
            )

    def at_start(self, previous: Optional[float]) -> Optional[float]:
        return None if previous is None else previous * self.factor

    def in_plan(self, previous: Cell) -> Cell:
        return self.at_start(previous[0]), f"x {self.factor:g}"

    def as_plain(self) -> Any:
        return {self.key: self.factor}


@dataclass(frozen=True)
class ScheduledLearningRate(LearningRateChange):
    """A Keras `LearningRateSchedule`, whose step 0 is the first step of the phase."""

    keras_schedule: Any

    @property
    def schedule(self) -> Optional[Any]:
        return self.keras_schedule

    def uses_schedule(self, before: bool) -> bool:
        return True

    def in_plan(self, previous: Cell) -> Cell:
        return None, "schedule"

    def as_plain(self) -> Any:
        raise ScheduleError(
            f"the learning rate {type(self.keras_schedule).__name__} cannot be written as YAML. "
            "Use a number or RelativeRate(...) instead, or keep this schedule in Python."
        )


class LearningRatePerOptimizer(LearningRateChange):
    """A number for each of several optimizers, as a GAN has them.

    Args:
        values: attribute of the model -> learning rate; "optimizer" is that of `compile()`.

    Raises:
        ScheduleError: it is empty, a key is no text, or a value is not positive and finite.
    """

    key: ClassVar[str] = "per_optimizer"

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {name: plain(value) for name, value in values.items()}
        names_are_text = all(isinstance(name, str) for name in self._values)
        if not self._values or not names_are_text or not all(map(is_positive, values.values())):
            raise ScheduleError(
                f"learning_rate={dict(values)!r}, expected a positive number for each optimizer, "
                'by its attribute of the model: {"generator_optimizer": 1e-5}.'
            )

    @property
    def by_optimizer(self) -> Mapping[str, float]:
        return self._values

    def in_plan(self, previous: Cell) -> Cell:
        return None, ", ".join(f"{name} {value:.3g}" for name, value in self._values.items())

    def as_plain(self) -> Any:
        return {self.key: dict(self._values)}


def as_change(learning_rate: Any) -> LearningRateChange:
    """What a phase's `learning_rate` does.

    Args:
        learning_rate: a positive number, a `RelativeRate`, a `LearningRateSchedule` of any Keras,
            a dict of numbers by attribute of the optimizer, or None.

    Raises:
        ScheduleError: it is none of these.
    """
    if learning_rate is None:
        return KeptLearningRate()
    if isinstance(learning_rate, LearningRateChange):
        return learning_rate
    if any(cls.__name__ == "LearningRateSchedule" for cls in type(learning_rate).__mro__):
        return ScheduledLearningRate(learning_rate)
    if isinstance(learning_rate, Mapping):
        return LearningRatePerOptimizer(learning_rate)
    if is_positive(learning_rate):
        return FixedLearningRate(learning_rate)
    raise ScheduleError(
        f"learning_rate={learning_rate!r}, expected a positive number, RelativeRate(...), a "
        "LearningRateSchedule, a number for each optimizer or None."
    )


# ----------------------------------------------------------------- layer decay
def block_depths(snapshot: ModelSnapshot) -> Dict[str, int]:
    """Path -> how many blocks lie between a layer and the output; "" is the model itself.

    Blocks are those of `find_blocks` over the whole model, whether they train or not, so the
    depth of a layer is the same in every phase: 0 in the last block. A shared layer counts where
    it is called first. Weights that the model itself owns count as part of the first block, as
    class token and position embedding do in BEiT.

    Args:
        snapshot: a built model.
    """
    found = find_blocks(snapshot)
    deepest = max(len(found) - 1, 0)
    depths = {path: deepest for path, _ in snapshot.layers}
    depths[""] = deepest
    for i, block in enumerate(found):
        depths.update(dict.fromkeys(block.paths, deepest - i))
    return depths


def learning_rate_factors(snapshot: ModelSnapshot, decay: float) -> Dict[str, float]:
    """Path -> factor on the learning rate, `decay ** depth`; empty for a decay of 1.

    Args:
        snapshot: a built model.
        decay: factor from one block to the next deeper one, 0 < decay <= 1.

    Source: Howard and Ruder, "Universal Language Model Fine-tuning" (arXiv:1801.06146), 3.2,
    with a decay of 1/2.6 per layer; Clark et al., ELECTRA (arXiv:2003.10555), appendix A, with
    0.8 and 0.9 per transformer block; Bao et al., BEiT (arXiv:2106.08254), likewise.
    """
    if decay == 1.0:
        return {}
    return {path: decay**depth for path, depth in block_depths(snapshot).items()}
