"""`Phase`: what trains, at which learning rate, how BN runs, and when the phase ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Optional, Sequence, Tuple

from keras_bnguard.errors import ScheduleError, SelectorError
from keras_bnguard.phases.conditions import EndCondition, Until, as_condition
from keras_bnguard.phases.fields import (
    BatchNormMode,
    OptimizerState,
    is_number,
    is_whole,
    plain,
)
from keras_bnguard.phases.learning_rates import LearningRateChange, as_change
from keras_bnguard.phases.train_selectors import TrainSelectors, check_train


@dataclass(frozen=True)
class Phase:
    """One phase of a fine-tuning schedule.

    Args:
        name: shown in the plan, in reports and in `PhaseScheduler.history`.
        train: what trains: a glob on layer paths, "re:...", a layer class, a predicate,
            `LastLayers(20)`, `LastBlocks(2)`, or a list of these. Everything else is frozen.
        learning_rate: a positive number, a `LearningRateSchedule`, or `RelativeRate(0.1)` of
            the phase before. For a model with several optimizers of its own, as a GAN, a number
            for each by its attribute: `{"generator_optimizer": 1e-5, ...}`; "optimizer" is that
            of `compile()`. Defaults to None: as it is.
        epochs: how many epochs at most. Defaults to None: as many as `fit` has.
        until: ends the phase earlier: `Plateau`, `Threshold`, or a function of
            (epochs in this phase, logs) that returns True at the end. Defaults to None.
        batch_norm: how BN runs. "inference": BN with trained statistics at the start of training
            runs in inference mode in every phase, its gamma and beta train where `train` selects
            them; other BN follows its `trainable`. "affine-only": every BN runs in inference
            mode, gamma and beta of the selected ones train. "train": every BN of the model runs
            in training mode, selected or not. "follow": BN runs in training mode where selected,
            as in plain Keras. Defaults to "inference".
        warmup: number of steps over which the learning rate rises linearly from 0 to
            `learning_rate` at the start of the phase. Defaults to 0.
        optimizer_state: "carry" keeps the optimizer state variables and the iteration count of
            the weights that go on training, "reset" starts a new optimizer. Defaults to
            None: as the scheduler's.
        restore_best: restore the best weights of this phase when it ends, at the end of `fit`
            too; needs `until=Plateau(...)`. Defaults to False.
        layer_decay: a layer d blocks before the last one of the model trains at
            `learning_rate * layer_decay ** d`, 0 < layer_decay <= 1. Keras's weight decay, which
            is multiplied by the learning rate, shrinks with it. Defaults to 1.0: the same
            learning rate for all.

    Raises:
        ScheduleError: a value is not one of those listed.
        SelectorError: `train` contains what is no selector, or no valid regular expression.
    """

    name: str
    train: TrainSelectors
    learning_rate: Any = None
    epochs: Optional[int] = None
    until: Optional[Until] = None
    batch_norm: str = BatchNormMode.INFERENCE
    warmup: int = 0
    optimizer_state: Optional[str] = None
    restore_best: bool = False
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ScheduleError(f"Phase(name={self.name!r}): expected a non-empty text.")
        for field in ("learning_rate", "epochs", "warmup", "layer_decay"):
            object.__setattr__(self, field, plain(getattr(self, field)))
        try:
            mode = BatchNormMode.parse(self.batch_norm, "batch_norm")
            object.__setattr__(self, "batch_norm", mode)
            if self.optimizer_state is not None:
                state = OptimizerState.parse(self.optimizer_state, "optimizer_state")
                object.__setattr__(self, "optimizer_state", state)
            check_train(self.train)
            self._check_numbers()
            self._check_end()
            if self.learning_rate_change.schedule is not None and self.warmup:
                raise ScheduleError(
                    "warmup together with a LearningRateSchedule. Give the schedule its own "
                    "warm-up, or the phase a number."
                )
        except (ScheduleError, SelectorError) as error:
            raise type(error)(f"phase {self.name!r}: {error}") from None

    @property
    def condition(self) -> Optional[EndCondition]:
        """What ends the phase besides its epochs, None for nothing."""
        return as_condition(self.until)

    @property
    def learning_rate_change(self) -> LearningRateChange:
        """What the phase does to the learning rate."""
        return as_change(self.learning_rate)

    @property
    def monitor(self) -> Optional[str]:
        """The key of `logs` that ends this phase, None for a function or a number of epochs."""
        return None if self.condition is None else self.condition.monitored

    def resolved(self, optimizer_state: str) -> Phase:
        """The phase with an `optimizer_state`: its own, else this one."""
        return replace(self, optimizer_state=self.optimizer_state or optimizer_state)

    def describe_end(self) -> str:
        """When the phase ends, for the plan table."""
        parts = []
        if self.epochs is not None:
            parts.append(f"{self.epochs} epoch" + "s" * (self.epochs != 1))
        if self.condition is not None:
            parts.append(self.condition.describe())
        return " or ".join(parts) or "end of fit"

    def _check_numbers(self) -> None:
        if self.epochs is not None and (not is_whole(self.epochs) or self.epochs < 1):
            raise ScheduleError(f"epochs={self.epochs!r}, expected a positive integer.")
        if not is_whole(self.warmup) or self.warmup < 0:
            raise ScheduleError(f"warmup={self.warmup!r}, expected a number of steps.")
        if not (is_number(self.layer_decay) and 0 < self.layer_decay <= 1):
            raise ScheduleError(
                f"layer_decay={self.layer_decay!r}, expected more than 0 and at most 1."
            )

    def _check_end(self) -> None:
        condition = self.condition
        if self.restore_best and not (condition is not None and condition.finds_best):
            raise ScheduleError("restore_best=True needs until=Plateau(...), which finds the best.")


def check_phases(phases: Sequence[Phase]) -> Tuple[Phase, ...]:
    """The phases as a tuple, if they can follow one another.

    Raises:
        ScheduleError: there are none, two have the same name, or one but the last never ends.
    """
    found = tuple(phases) if isinstance(phases, (list, tuple)) else ()
    if not found or not all(isinstance(phase, Phase) for phase in found):
        raise ScheduleError(
            f"phases: expected a non-empty list of Phase(...), got {phases!r}. "
            'For example: [Phase("head", train=LastLayers(1), learning_rate=1e-3, epochs=5), '
            'Phase("all", train="*", learning_rate=1e-5)].'
        )
    names = [phase.name for phase in found]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ScheduleError(f"phases share a name: {', '.join(doubled)}. Give each its own.")
    for phase in found[:-1]:
        if phase.epochs is None and phase.until is None:
            raise ScheduleError(
                f"phase {phase.name!r} never ends, so {found[-1].name!r} is never reached. "
                "Give it epochs=... or until=Plateau(...)."
            )
    return found
