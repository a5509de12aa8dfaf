"""Where a run is in its schedule: epochs counted, the monitored value judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Sequence

from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases.phase import Phase


@dataclass
class PhaseCursor:
    """Where a run is in its schedule; plain values, so that it can be written to a file.

    Attributes:
        phase: index of the phase.
        epochs: finished epochs of that phase.
        over: the phase has ended; the next epoch begins another one.
        memory: what the end condition of the phase keeps between epochs.
        improved: the last epoch was the best one of the phase; not written to a file.
        met: the end condition of the phase is met.
    """

    phase: int = 0
    epochs: int = 0
    over: bool = False
    memory: Dict[str, Any] = field(default_factory=dict)
    improved: bool = False
    met: bool = False

    def enter(self, phase: int) -> None:
        """Begin a phase: its own count, its own best."""
        self.phase, self.epochs, self.over = phase, 0, False
        self.forget()

    def forget(self) -> None:
        """Forget what the end condition of the phase found so far."""
        self.memory, self.improved, self.met = {}, False, False

    def count_again(self, phase: Phase) -> None:
        """Find out whether the phase is over: its condition is met, or its epochs are done."""
        self.over = self.met or (phase.epochs is not None and self.epochs >= phase.epochs)

    def epoch_done(self, phase: Phase, logs: Mapping[str, Any], judged: bool = True) -> None:
        """Count one finished epoch.

        Args:
            phase: the one under way.
            logs: what Keras logged for the epoch.
            judged: the monitored value was computed in this epoch; if not, the epoch counts and
                its end condition is not asked.

        Raises:
            ScheduleError: `logs` lacks what the end condition reads; names the phase.
        """
        self.epochs += 1
        self.improved = False
        condition = phase.condition
        if condition is not None and judged:
            try:
                self.met = condition.update(self.epochs, logs, self.memory)
            except ScheduleError as error:
                raise ScheduleError(f"phase {phase.name!r}: {error}") from error.__cause__
            self.improved = condition.improved(self.memory)
        self.count_again(phase)

    def as_dict(self) -> Dict[str, Any]:
        """For the state file; `PhaseCursor(**values)` reads it."""
        return {
            "phase": self.phase,
            "epochs": self.epochs,
            "over": self.over,
            "memory": dict(self.memory),
            "met": self.met,
        }

    def copy(self) -> PhaseCursor:
        """One that moves on its own."""
        return PhaseCursor(**self.as_dict())


def count_epochs(phases: Sequence[Phase], epoch: int, missing: str = "") -> PhaseCursor:
    """Where a schedule of plain epoch counts is before an epoch, without a saved state.

    Args:
        phases: checked by `check_phases`.
        epoch: the one that begins.
        missing: a sentence about where a saved state was looked for, for errors.

    Raises:
        ScheduleError: a phase up to there ends by a condition, or a learning rate builds on a
            `LearningRateSchedule`, and neither can be known without the saved state.
    """
    cursor = PhaseCursor()
    for _ in range(epoch):
        if cursor.over and cursor.phase + 1 < len(phases):
            cursor.enter(cursor.phase + 1)
        phase = phases[cursor.phase]
        if phase.condition is not None:
            raise ScheduleError(
                f"fit begins at epoch {epoch + 1}, and phase {phase.name!r} ends when "
                f"{phase.condition.describe()}, so the state after epoch {epoch} is needed."
                f"{missing} Give PhaseScheduler(state=folder), the same in both runs."
            )
        cursor.epoch_done(phase, {})
    scheduled = False
    for phase in phases[: cursor.phase + 1 + cursor.over] if epoch else ():
        if scheduled and phase.learning_rate_change.needs_previous:
            raise ScheduleError(
                f"fit begins at epoch {epoch + 1}, and the learning rate of phase {phase.name!r} "
                f"is a factor of where a LearningRateSchedule was, which is not known.{missing} "
                "Give PhaseScheduler(state=folder), the same in both runs, or the phase a number."
            )
        scheduled = phase.learning_rate_change.uses_schedule(scheduled)
    return cursor
