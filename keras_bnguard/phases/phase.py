"""Phases as data: what trains, at which rate, how BN runs, and when the phase ends."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Optional, Sequence, Tuple, Union

from keras_bnguard.errors import ScheduleError
from keras_bnguard.selectors import Selectors

BATCH_NORM = ("inference", "train", "affine-only", "follow")
OPTIMIZER_STATE = ("carry", "reset")


@dataclass(frozen=True)
class last:
    """Selector: the last `count` layers that own weights, in the order of the model.

    A BN counts as a layer; layers without weights do not.
    """

    count: int


@dataclass(frozen=True)
class blocks:
    """Selector: the last `count` blocks of the model, with everything after them.

    A block is a residual block or a run of layers of one name prefix; a convolution and its
    BN are never parted. See `keras_bnguard.model.blocks.finder`.
    """

    count: int


@dataclass(frozen=True)
class times:
    """Learning rate: this factor of the rate the phase before ended with."""

    factor: float

    def __post_init__(self) -> None:
        if not (_is_number(self.factor) and math.isfinite(self.factor) and self.factor > 0):
            raise ScheduleError(f"times({self.factor!r}): expected a positive factor.")


@dataclass(frozen=True)
class Plateau:
    """Ends a phase when a monitored value has not improved for `patience` epochs.

    Every phase is judged by its own best, not by that of the phases before.

    Args:
        monitor: a key of `logs`. Defaults to "val_loss".
        patience: epochs without improvement. Defaults to 3.
        min_delta: smallest change that counts as an improvement. Defaults to 0.0.
        mode: "min", "max" or "auto" (max for names that end in acc, accuracy, auc, f1, score).
    """

    monitor: str = "val_loss"
    patience: int = 3
    min_delta: float = 0.0
    mode: str = "auto"

    def __post_init__(self) -> None:
        _direction(self.mode, self.monitor)
        if not _is_count(self.patience) or self.patience < 1:
            raise ScheduleError(f"Plateau(patience={self.patience!r}): expected 1 or more epochs.")

    def better(self, value: float, best: Optional[float]) -> bool:
        """Whether a value improves on the best so far; NaN never does."""
        if math.isnan(value):
            return False
        if best is None:
            return True
        if _direction(self.mode, self.monitor) == "max":
            return value > best + self.min_delta
        return value < best - self.min_delta


@dataclass(frozen=True)
class Threshold:
    """Ends a phase when a monitored value reaches `value`.

    Args:
        monitor: a key of `logs`. value: the value to reach.
        mode: "min" (reached when at or below), "max" (at or above) or "auto".
    """

    monitor: str
    value: float
    mode: str = "auto"

    def __post_init__(self) -> None:
        _direction(self.mode, self.monitor)

    def reached(self, value: float) -> bool:
        """Whether the value is there; NaN is not."""
        if _direction(self.mode, self.monitor) == "max":
            return value >= self.value
        return value <= self.value


Until = Union[Plateau, Threshold, Callable[[int, Mapping[str, float]], bool]]


@dataclass(frozen=True)
class Phase:
    """One phase of a fine-tuning schedule.

    Args:
        name: shown in the plan, in reports and in `logs`.
        train: what trains: a glob on layer paths, "re:...", a layer class, a predicate,
            `last(20)`, `blocks(2)`, or a list of these. Everything else is frozen.
        learning_rate: a float, a `LearningRateSchedule`, `times(0.1)` of the phase before,
            or None: as it is.
        epochs: how many epochs at most.
        until: ends the phase earlier: `Plateau`, `Threshold`, or a function of
            (epochs in this phase, logs) that returns True when it is over.
        batch_norm: "inference" (default): BN that carried trained statistics when training
            began run in inference mode throughout, their gamma and beta train where `train`
            selects them; a fresh BN trains as its flag says. "affine-only": every BN runs in
            inference mode, gamma and beta of the selected ones train. "train": every BN of the
            model is live, selected or not. "follow": live where selected, as plain Keras.
        warmup: steps over which the rate rises linearly from 0 to `learning_rate` at the
            begin of the phase. Defaults to 0.
        optimizer_state: "carry" keeps slots and iteration count of the weights that go on,
            "reset" starts the optimizer anew, None as the scheduler says.
        restore_best: put the best weights of this phase back when it ends, at the end of
            `fit` too; needs a `Plateau`. Defaults to False.
        layer_decay: deeper layers train slower: a layer d blocks before the last one of the
            model (see `phases.layer_decay`) at `rate * layer_decay ** d`, 0 < value <= 1.
            What Keras multiplies by the rate, as its weight decay, goes with it. Defaults to
            1.0: one rate.

    Raises:
        ScheduleError: a value is not one of those listed.
    """

    name: str
    train: Selectors
    learning_rate: Any = None
    epochs: Optional[int] = None
    until: Optional[Until] = None
    batch_norm: str = "inference"
    warmup: int = 0
    optimizer_state: Optional[str] = None
    restore_best: bool = False
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        where = f"phase {self.name!r}"
        for field in ("learning_rate", "epochs", "warmup", "layer_decay"):
            object.__setattr__(self, field, _plain(getattr(self, field)))
        if not isinstance(self.name, str) or not self.name:
            raise ScheduleError(f"Phase(name={self.name!r}): expected a word or two.")
        if self.train is None or (isinstance(self.train, (list, tuple)) and not self.train):
            raise ScheduleError(
                f"{where}: train={self.train!r} selects nothing. Give a glob on layer paths, a "
                'class, last(20), blocks(2), or a list of these; "*" trains everything.'
            )
        if self.batch_norm not in BATCH_NORM:
            raise ScheduleError(
                f"{where}: batch_norm={self.batch_norm!r}, expected one of {', '.join(BATCH_NORM)}."
            )
        if self.optimizer_state not in (None, *OPTIMIZER_STATE):
            raise ScheduleError(
                f"{where}: optimizer_state={self.optimizer_state!r}, expected 'carry' or 'reset'."
            )
        if self.epochs is not None and (not _is_count(self.epochs) or self.epochs < 1):
            raise ScheduleError(f"{where}: epochs={self.epochs!r}, expected a positive integer.")
        if not _is_count(self.warmup) or self.warmup < 0:
            raise ScheduleError(f"{where}: warmup={self.warmup!r}, expected a number of steps.")
        if not (_is_number(self.layer_decay) and 0 < self.layer_decay <= 1):
            raise ScheduleError(
                f"{where}: layer_decay={self.layer_decay!r}, expected more than 0 and at most 1."
            )
        if self.restore_best and not isinstance(self.until, Plateau):
            raise ScheduleError(f"{where}: restore_best=True needs until=Plateau(...) to judge by.")
        known = self.until is None or isinstance(self.until, (Plateau, Threshold))
        if not known and not callable(self.until):
            raise ScheduleError(
                f"{where}: until={self.until!r}, expected Plateau(...), Threshold(...) or a "
                "function of (epochs in this phase, logs)."
            )
        rate = self.learning_rate
        known = rate is None or isinstance(rate, times) or is_rate_schedule(rate)
        if not known and not (_is_number(rate) and math.isfinite(rate) and rate > 0):
            raise ScheduleError(
                f"{where}: learning_rate={rate!r}, expected a positive number, times(...), a "
                "LearningRateSchedule or None."
            )
        if self.warmup and is_rate_schedule(rate):
            raise ScheduleError(
                f"{where}: warmup together with a LearningRateSchedule. Give the schedule its own "
                "warm-up, or the phase a float."
            )

    @property
    def monitor(self) -> Optional[str]:
        """The key of `logs` this phase watches, None for a function or a plain epoch count."""
        return getattr(self.until, "monitor", None)

    @property
    def ends(self) -> str:
        """When it ends, in words."""
        parts = []
        if self.epochs is not None:
            parts.append(f"{self.epochs} epoch" + "s" * (self.epochs != 1))
        if isinstance(self.until, Plateau):
            parts.append(f"{self.until.monitor} flat for {self.until.patience}")
        elif isinstance(self.until, Threshold):
            sign = ">=" if _direction(self.until.mode, self.until.monitor) == "max" else "<="
            parts.append(f"{self.until.monitor} {sign} {self.until.value:g}")
        elif self.until is not None:
            parts.append(f"{getattr(self.until, '__name__', 'function')}()")
        return " or ".join(parts) or "end of fit"


def check_phases(phases: Sequence[Phase]) -> Tuple[Phase, ...]:
    """The phases as a tuple, if they can follow one another.

    Raises:
        ScheduleError: there are none, two share a name, or one but the last has no end.
    """
    found = tuple(phases) if isinstance(phases, (list, tuple)) else ()
    if not found or not all(isinstance(phase, Phase) for phase in found):
        raise ScheduleError(
            f"expected a non-empty list of Phase(...), got {phases!r}. "
            'For example: [Phase("head", train="head*", learning_rate=1e-3, epochs=5), '
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


def is_rate_schedule(value: Any) -> bool:
    """Whether it is a LearningRateSchedule, of whichever Keras."""
    return any(cls.__name__ == "LearningRateSchedule" for cls in type(value).__mro__)


def _plain(value: Any) -> Any:
    """A NumPy number as Python's own; anything else as it is."""
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _direction(mode: str, monitor: str) -> str:
    if mode in ("min", "max"):
        return mode
    if mode != "auto":
        raise ScheduleError(f"mode={mode!r}: expected 'min', 'max' or 'auto'.")
    endings = ("acc", "accuracy", "auc", "f1", "score", "precision", "recall")
    return "max" if monitor.lower().endswith(endings) else "min"
