"""Where a run is in its schedule: epochs counted, the monitored value judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Sequence

from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases.phase import Phase, Plateau, Threshold, is_rate_schedule, times


@dataclass
class Tracker:
    """Where a run is in its schedule; plain values, so that it can be written to a file.

    phase: index. epochs: epochs done in it. best: best monitored value in it. wait: epochs
    since. over: the phase has ended, the next epoch begins another. began: the optimizer's
    iteration count when it began. target: rate its warm-up rises to. scheduled: the iteration
    count at which the LearningRateSchedule in force began.
    """

    phase: int = 0
    epochs: int = 0
    best: Optional[float] = None
    wait: int = 0
    over: bool = False
    began: int = 0
    target: Optional[float] = None
    scheduled: int = 0
    improved: bool = field(default=False)

    def epoch_done(self, phase: Phase, logs: Mapping[str, Any], judged: bool = True) -> None:
        """Count one finished epoch.

        Args:
            judged: the monitored value was looked at after this epoch; without, the epoch
                counts and is neither better nor worse.

        Raises:
            ScheduleError: the monitored key is not in `logs`; lists what is.
        """
        self.epochs += 1
        self.improved = False
        until = phase.until
        if not judged:
            pass
        elif isinstance(until, Plateau):
            value = _value(until.monitor, logs, phase)
            if until.better(value, self.best):
                self.best, self.wait, self.improved = value, 0, True
            else:
                self.wait += 1
            self.over = self.wait >= until.patience
        elif isinstance(until, Threshold):
            self.over = until.reached(_value(until.monitor, logs, phase))
        elif until is not None:
            self.over = bool(until(self.epochs, dict(logs)))
        if phase.epochs is not None and self.epochs >= phase.epochs:
            self.over = True

    def enter(self, phase: int) -> None:
        """Begin a phase: its own best, its own count."""
        self.phase, self.epochs, self.best, self.wait = phase, 0, None, 0
        self.over, self.improved = False, False
        self.began, self.target = 0, None

    def as_dict(self) -> Dict[str, Any]:
        """For the state file."""
        return {
            "phase": self.phase,
            "epochs": self.epochs,
            "best": self.best,
            "wait": self.wait,
            "over": self.over,
            "began": self.began,
            "target": self.target,
            "scheduled": self.scheduled,
        }


def _value(monitor: str, logs: Mapping[str, Any], phase: Phase) -> float:
    if monitor not in logs:
        raise ScheduleError(
            f"phase {phase.name!r} watches {monitor!r}, which is not in the logs of this fit. "
            f"There are: {', '.join(sorted(logs)) or 'none'}."
        )
    size = getattr(logs[monitor], "size", 1)
    if size != 1:
        raise ScheduleError(
            f"phase {phase.name!r} watches {monitor!r}, which has {size} values an epoch, as a "
            'metric per class. Watch one number: for F1Score pass average="macro".'
        )
    value = logs[monitor]
    return float(value.item() if hasattr(value, "item") else value)


def counted(phases: Sequence[Phase], epoch: int, missing: str = "") -> Tracker:
    """Where a schedule of plain epoch counts is before an epoch, with no state to read.

    Args:
        missing: what to say of where a state was looked for.

    Raises:
        ScheduleError: a phase up to there ends by what it watched, which nothing tells now.
    """
    tracker = Tracker()
    for _ in range(epoch):
        if tracker.over and tracker.phase + 1 < len(phases):
            tracker.enter(tracker.phase + 1)
        phase = phases[tracker.phase]
        if phase.until is not None:
            raise ScheduleError(
                f"fit begins at epoch {epoch}, and phase {phase.name!r} ends by what it "
                f"watched before, so the state after epoch {epoch - 1} is needed.{missing} "
                "Give PhaseScheduler(state=folder), the same in both runs."
            )
        tracker.epoch_done(phase, {})
    scheduled = False
    for phase in phases[: tracker.phase + 1 + tracker.over] if epoch else ():
        if scheduled and isinstance(phase.learning_rate, times):
            raise ScheduleError(
                f"fit begins at epoch {epoch}, and the rate of phase {phase.name!r} is a factor of "
                f"where a LearningRateSchedule was, which nothing tells now.{missing} Give "
                "PhaseScheduler(state=folder), the same in both runs, or the phase a float."
            )
        learning_rate = phase.learning_rate
        scheduled = is_rate_schedule(learning_rate) or (scheduled and learning_rate is None)
    return tracker
