"""Where a scheduled run is, on disk: written at each epoch end, read when it is started again."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases.cursor import Tracker

FORMAT = 1


@dataclass
class SavedState:
    """What a file holds: the state after `epoch` was finished.

    optimizer: its variables in its own order. random: states of the layers' seed generators,
    which Keras 3 does not back up. best: weights of the phase's best epoch.
    rate: the learning rate, None for a schedule. names: the phases, to refuse another schedule.
    """

    epoch: int
    tracker: Tracker
    names: Tuple[str, ...]
    pretrained: Tuple[str, ...]
    learning_rate: Optional[float]
    optimizer: List[np.ndarray]
    random: List[np.ndarray]
    best: List[np.ndarray]


class StateFile:
    """The state of a scheduled run at its last two epoch ends, in one folder.

    Two, because a run can be killed after this file was written and before Keras wrote its
    own backup of the same epoch.
    """

    def __init__(self, folder: Any) -> None:
        self.folder = Path(os.fspath(folder))

    def write(self, state: SavedState) -> None:
        """Write the state after an epoch; the file appears whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        head = {
            "format": FORMAT,
            "epoch": state.epoch,
            "tracker": state.tracker.as_dict(),
            "names": list(state.names),
            "pretrained": list(state.pretrained),
            "rate": state.learning_rate,
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

    def after(self, epoch: int) -> Optional[SavedState]:
        """The state after a given epoch, None where it was not kept."""
        path = self._path(epoch)
        return self._read(path) if path.exists() else None

    def has(self, epoch: int) -> bool:
        """Whether the state after an epoch was kept."""
        return self._path(epoch).exists()

    def clear(self) -> None:
        """Remove the files, once the run has ended as planned."""
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
                    tracker=Tracker(**head["tracker"]),
                    names=tuple(head["names"]),
                    pretrained=tuple(head["pretrained"]),
                    learning_rate=head["rate"],
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


def check_same_schedule(state: SavedState, names: Sequence[str], folder: Path) -> None:
    """Refuse a state that another schedule left behind.

    Raises:
        ScheduleError: the phases have other names.
    """
    if state.names != tuple(names):
        raise ScheduleError(
            f"{folder} holds the state of another schedule: {', '.join(state.names)}; this one is "
            f"{', '.join(names)}. Use another folder, or remove that one."
        )
