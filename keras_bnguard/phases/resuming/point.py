"""Where a `fit` begins in its schedule: from the start, from a saved state, or from a count."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Optional, Sequence

from keras_bnguard.backends.patches.fit_scope import FitArguments, find_backup
from keras_bnguard.backends.values.keras_backup import Backup, read_backup
from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases.cursor import PhaseCursor, count_epochs
from keras_bnguard.phases.fields import OptimizerState
from keras_bnguard.phases.phase import Phase
from keras_bnguard.phases.resuming.checkpoint import SavedState, StateFile


@dataclass(frozen=True)
class ResumePoint:
    """Where a `fit` begins in its schedule. It reads neither model nor disk.

    Attributes:
        epoch: the first epoch.
        midway: the weights were backed up inside that epoch, which is repeated with them.
        cursor: the place in the schedule before that epoch.
        saved: the state after the epoch before, None where none was kept.
        phases: of the schedule.
    """

    epoch: int
    midway: bool
    cursor: PhaseCursor
    saved: Optional[SavedState]
    phases: Sequence[Phase]

    @classmethod
    def find(
        cls,
        phases: Sequence[Phase],
        backup: Backup,
        saved: Optional[SavedState],
        missing: str = "",
    ) -> ResumePoint:
        """Find the place of an epoch in a schedule.

        Args:
            phases: with their own `optimizer_state`.
            backup: the epoch that begins, and whether its weights come from inside it.
            saved: the state after the epoch before, None where none was kept.
            missing: a sentence about where a state was looked for, for errors.

        Raises:
            ScheduleError: without a saved state the place cannot be known.
        """
        cursor = count_epochs(phases, backup.epoch, missing) if saved is None else saved.cursor
        return cls(backup.epoch, backup.midway, cursor.copy(), saved, phases)

    def start_of(self, index: int, steps: int) -> Optional[int]:
        """The optimizer's iteration count when a phase began, None for what it counts now.

        Without a saved state it is computed as if all epochs had equally many steps.

        Args:
            index: of the phase, up to that of the cursor.
            steps: what the optimizer that came with the model counts; 0 for a new one.
        """
        if self.saved is not None:
            return self.saved.learning_rate.schedule_start
        if not steps:
            return None
        begins = [0]
        for phase in self.phases[:-1]:
            begins.append(begins[-1] + (phase.epochs or 0))
        reset = [
            begin
            for begin, phase in zip(begins, self.phases)
            if begin < self.epoch and phase.optimizer_state is OptimizerState.RESET
        ]
        zero = max(reset, default=0)
        return round(steps * max(begins[index] - zero, 0) / max(self.epoch - zero, 1))


def backup_of(arguments: FitArguments) -> Backup:
    """Where the running `fit` will begin: at its backup, else at its `initial_epoch`.

    Raises:
        ScheduleError: the backup is broken.
    """
    callback = find_backup(arguments.callbacks)
    found = None if callback is None else read_backup(callback)
    return Backup(arguments.initial_epoch, False) if found is None else found


def folder_path(folder: Any) -> str:
    """A folder that the user gave, as text.

    Raises:
        ScheduleError: it is no path.
    """
    try:
        return os.fsdecode(folder)
    except TypeError:
        raise ScheduleError(f"state={folder!r}, expected the path of a folder.") from None


def state_file_of(arguments: FitArguments, folder: Optional[Any]) -> Optional[StateFile]:
    """Where the state of the running `fit` is kept, None for nowhere.

    Args:
        arguments: of `fit`.
        folder: as the user gave it; None for a folder beside that of a `BackupAndRestore`.
    """
    if folder is not None:
        return StateFile(folder)
    backup = find_backup(arguments.callbacks)
    if backup is None:
        return None
    # Beside the backup, not in it: Keras may remove everything that is in there.
    beside = os.fspath(backup.backup_dir).rstrip("/\\") + "-phases"
    return StateFile(beside, keep=not getattr(backup, "delete_checkpoint", True))


class KeptOptimizer:
    """The optimizer a model comes with, as after `load_model` or an earlier `fit`.

    Going through the phases up to the one training goes on in leaves it without the state
    variables of what the first phase freezes; this puts them back.

    Args:
        backend: of the model.
        model: before any phase was entered.

    Attributes:
        steps: how many it has taken with the variables that trained then; 0 for a new one.
    """

    def __init__(self, backend: Any, model: Any) -> None:
        self._optimizer, self._model = backend.optimizer, model
        known = self._optimizer.knows_exactly(model)
        self.steps: int = self._optimizer.iterations(model) if known else 0
        self._state = self._optimizer.state(model) if self.steps else []
        self._trained = [id(v) for v in model.trainable_variables]

    def put_back(self) -> bool:
        """Put its state back, but for the learning rate, which the phase sets.

        Returns:
            Whether that was possible: it was made for the variables that train now.
        """
        optimizer, model = self._optimizer, self._model
        if not self.steps or self._trained != [id(v) for v in model.trainable_variables]:
            return False
        learning_rate = optimizer.learning_rate(model)
        if not optimizer.load_state(model, self._state):
            return False
        if learning_rate is not None:
            optimizer.set_learning_rate(model, learning_rate)
        return True
