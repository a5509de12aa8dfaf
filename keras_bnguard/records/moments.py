"""When something was seen, and when a rule is evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional


class MomentKind(Enum):
    """The kinds of moments of a training run; the value is the text of a report."""

    AUDIT = "audit"
    BEFORE_FIT = "before fit"
    TRAIN_START = "start of training"
    EPOCH_START = "start of epoch {}"
    EPOCH_END = "end of epoch {}"
    BATCH_START = "start of batch {}"
    BATCH_END = "end of batch {}"
    STEP_START = "before a step"
    STEP = "step {}"
    INSIDE_EPOCH = "inside an epoch"
    INSIDE_FIT = "inside fit"
    CHECK = "check"
    LOOP_END = "end of the loop"
    TRAINING_END = "end of training"
    VALIDATION = "in validation"
    EVALUATE = "in evaluate"
    PREDICT = "in predict"


@dataclass(frozen=True)
class Moment:
    """One moment of a training run.

    Attributes:
        kind: what kind of moment it is.
        number: number of the epoch or batch, from 0, or of the step, from 1; None where the
            kind has none. Defaults to None.
    """

    kind: MomentKind
    number: Optional[int] = None

    def __str__(self) -> str:
        """For people: epochs count from 1, as Keras prints them."""
        number = self.number
        if self.kind in _EPOCHS and number is not None:
            number += 1
        return self.kind.value.format(number)

    @property
    def from_zero(self) -> str:
        """For JSON: epochs count from 0, as callbacks get them."""
        return self.kind.value.format(self.number)

    @property
    def phrase(self) -> str:
        """The moment as it stands in a sentence: `at end of epoch 3`, `before a step`."""
        return str(self) if self.kind in _WITH_PREPOSITION else f"at {self}"


_EPOCHS = (MomentKind.EPOCH_START, MomentKind.EPOCH_END)
_WITH_PREPOSITION = (
    MomentKind.BEFORE_FIT,
    MomentKind.STEP_START,
    MomentKind.INSIDE_EPOCH,
    MomentKind.INSIDE_FIT,
    MomentKind.VALIDATION,
    MomentKind.EVALUATE,
    MomentKind.PREDICT,
)


AUDIT = Moment(MomentKind.AUDIT)
BEFORE_FIT = Moment(MomentKind.BEFORE_FIT)
TRAIN_START = Moment(MomentKind.TRAIN_START)


class Trigger(Enum):
    """What makes the rules run again; a rule lists those at which it is evaluated."""

    SNAPSHOT = "the model was read: start of training, a new phase, layers built late"
    CHECK = "every check while training runs"
    CHANGE = "a check at which a statistic, a call or a flag changed in a new way"
    TRAINABLE_CHANGE = "`trainable` was assigned"
    LEAK = "the first step showed a leaked `training` argument"
    INFERENCE = "the first inference pass showed how BN are called"
    OUTSIDE = "calls outside training changed statistics"
    RECOMPILE = "`compile()` ran inside `fit`"
    LOOP_END = "a custom training loop ended"
    TRAINING_END = "`fit` ended"
    ASSIGNMENT = "callbacks assigned weights between steps"
