"""The state of a scheduled run on disk: written after each epoch, read when it is resumed."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases.cursor import PhaseCursor

FORMAT = 2


@dataclass(frozen=True)
class LearningRateState:
    """The learning rate, and what decides how it goes on.

    Attributes:
        value: the learning rate, None under a schedule.
        warmup_start: the optimizer's iteration count when the warm-up began.
        warmup_target: the learning rate the warm-up arrives at, None when none is under way.
        schedule_start: the iteration count when the `LearningRateSchedule` in use began.
    """

    value: Optional[float]
    warmup_start: int = 0
    warmup_target: Optional[float] = None
    schedule_start: int = 0


@dataclass(frozen=True)
class SavedState:
    """What a file holds: the state after an epoch.

    Attributes:
        epoch: the epoch that was finished.
        cursor: the place in the schedule.
        learning_rate: with what decides how it goes on.
        names: of the phases, so that the state of another schedule is refused.
        pretrained: paths of BN with trained statistics at the start of training.
        optimizer: the optimizer's variables, in its own order.
        random: states of the seed generators of layers, which Keras 3 does not back up.
        best: weights of the best epoch of the phase; empty where none are kept.
    """

    epoch: int
    cursor: PhaseCursor
    learning_rate: LearningRateState
    names: Tuple[str, ...]
    pretrained: Tuple[str, ...]
    optimizer: List[np.ndarray]
    random: List[np.ndarray]
    best: List[np.ndarray]


class StateFile:
    """The state of a scheduled run after its last two epochs, in one folder.

    Two, because a run can be killed after this file was written and before Keras wrote its
    own backup of the same epoch.

    Args:
        folder: a path; made when it is first needed.
        keep: the files stay when the run ends as planned. Defaults to True.

    Attributes:
        folder: as given.
    """

    def __init__(self, folder: Any, keep: bool = True) -> None:
        self.folder = Path(os.fspath(folder))
        self._keep = keep

    def write(self, state: SavedState) -> None:
        """Write the state after an epoch; the file appears whole or not at all.

        Args:
            state: to write.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        head = {
            "format": FORMAT,
            "epoch": state.epoch,
            "cursor": state.cursor.as_dict(),
            "learning_rate": asdict(state.learning_rate),
            "names": list(state.names),
            "pretrained": list(state.pretrained),
        }
        arrays = {f"optimizer_{i}": value for i, value in enumerate(state.optimizer)}
        arrays.update({f"random_{i}": value for i, value in enumerate(state.random)})
        arrays.update({f"best_{i}": value for i, value in enumerate(state.best)})
        target = self._path(state.epoch)
        partial = target.with_suffix(".partial")
        with open(partial, "wb") as file:
            np.savez(file, **{"head": np.array(json.dumps(head)), **arrays})  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
        for old in self._files()[:-2]:
            old.unlink(missing_ok=True)

    def read(self, epoch: int, names: Sequence[str]) -> Optional[SavedState]:
        """The state after an epoch, None where it was not kept.

        Args:
            epoch: the epoch that was finished.
            names: of the phases of this schedule.

        Raises:
            ScheduleError: the file is broken, or is that of a schedule with other phases.
        """
        if not self.has(epoch):
            return None
        state = self._read(self._path(epoch))
        if state.names != tuple(names):
            raise ScheduleError(
                f"{self.folder} holds the state of another schedule: {', '.join(state.names)}; "
                f"this one is {', '.join(names)}. Use another folder, or remove that one."
            )
        return state

    def has(self, epoch: int) -> bool:
        """Whether the state after an epoch was kept."""
        return self._path(epoch).exists()

    def finish(self) -> None:
        """Remove the files once the run has ended as planned, unless they are to stay."""
        if not self._keep:
            self.clear()

    def clear(self) -> None:
        """Remove the files, and the folder where it is empty then."""
        for path in [*self._files(), *self.folder.glob("phases-*.partial")]:
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _path(self, epoch: int) -> Path:
        return self.folder / f"phases-{epoch:06d}.npz"

    def _files(self) -> List[Path]:
        return sorted(self.folder.glob("phases-*.npz")) if self.folder.is_dir() else []

    def _read(self, path: Path) -> SavedState:
        try:
            with np.load(path, allow_pickle=False) as stored:
                head = json.loads(str(stored["head"]))
                if head["format"] != FORMAT:
                    raise ValueError(f"format {head['format']}, expected {FORMAT}")
                return SavedState(
                    epoch=int(head["epoch"]),
                    cursor=PhaseCursor(**head["cursor"]),
                    learning_rate=LearningRateState(**head["learning_rate"]),
                    names=tuple(head["names"]),
                    pretrained=tuple(head["pretrained"]),
                    optimizer=_numbered(stored, "optimizer"),
                    random=_numbered(stored, "random"),
                    best=_numbered(stored, "best"),
                )
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise ScheduleError(
                f"{path} is no state file of a PhaseScheduler, or it is broken ({error}). Remove "
                "it to begin the schedule at its first phase."
            ) from error


def _numbered(stored: Any, name: str) -> List[np.ndarray]:
    count = sum(key.startswith(f"{name}_") for key in stored.files)
    return [stored[f"{name}_{i}"] for i in range(count)]
