"""The state of a scheduled run on disk: written after each epoch, read when it is resumed."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases.cursor import PhaseCursor

FORMAT = 4


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

    def with_warmup(self, steps: int) -> LearningRateState:
        """It, in a phase whose warm-up now has this many steps: with 0 it has arrived."""
        if steps or self.warmup_target is None:
            return self
        return replace(self, value=self.warmup_target, warmup_target=None)


@dataclass(frozen=True)
class ProcessStates:
    """Random states of one of several processes.

    Attributes:
        generators: the random states of the process, by name.
        random: states of the seed generators of layers, as lists.
    """

    generators: Dict[str, Any]
    random: List[Any]

    @classmethod
    def of(cls, state: SavedState) -> ProcessStates:
        """Those in a state that this process took."""
        return cls(state.generators, [value.tolist() for value in state.random])


@dataclass(frozen=True)
class SavedState:
    """What a file holds: the state after an epoch.

    Attributes:
        epoch: the epoch that was finished.
        cursor: the place in the schedule.
        learning_rate: with what decides how it goes on.
        schedule: the fields of each phase as text, by name, to find what changed since.
        trains: paths of the layers that trained in the phase under way.
        pretrained: paths of BN with trained statistics at the start of training.
        optimizer: the optimizer's variables, in its own order.
        random: states of the seed generators of layers, which Keras 3 does not back up.
        best: weights of the best epoch of the phase; empty where none are kept.
        generators: the random states of the process, by name.
        further: for each attribute with another optimizer its learning rate and variables.
        processes: random states of each of several processes, by rank; empty for one.
    """

    epoch: int
    cursor: PhaseCursor
    learning_rate: LearningRateState
    schedule: Tuple[Dict[str, str], ...]
    trains: Tuple[str, ...]
    pretrained: Tuple[str, ...]
    optimizer: List[np.ndarray]
    random: List[np.ndarray]
    best: List[np.ndarray]
    generators: Dict[str, Any] = field(default_factory=dict)
    further: Dict[str, List[np.ndarray]] = field(default_factory=dict)
    processes: Tuple[ProcessStates, ...] = ()

    @property
    def names(self) -> Tuple[str, ...]:
        """Names of the phases."""
        return tuple(each["name"] for each in self.schedule)

    def with_processes(self, processes: Sequence[ProcessStates]) -> SavedState:
        """It, with the random states of all processes."""
        return replace(self, processes=tuple(processes))

    def of_process(self, rank: int) -> SavedState:
        """It, with the random states of one process; without any where that one is new."""
        if not self.processes:
            return self
        if rank >= len(self.processes):
            return replace(self, generators={}, random=[])
        mine = self.processes[rank]
        random = [np.asarray(v, like.dtype) for v, like in zip(mine.random, self.random)]
        return replace(self, generators=mine.generators, random=random)


class StateFile:
    """The state of a scheduled run after its last two epochs, in one folder.

    Two, because a run can be killed after this file was written and before Keras wrote its
    own backup of the same epoch.

    Args:
        folder: a path; made when it is first needed.
        keep: the files stay when the run ends as planned. Defaults to True.
        writes: whether files are written and removed; of several processes with one folder only
            one does. Defaults to True.

    Attributes:
        folder: as given.
    """

    def __init__(self, folder: Any, keep: bool = True, writes: bool = True) -> None:
        self.folder = Path(os.fspath(folder))
        self._keep = keep
        self._writes = writes

    def for_reading(self) -> StateFile:
        """The same files, which another process writes and removes."""
        return StateFile(self.folder, self._keep, writes=False)

    def write(self, state: SavedState) -> None:
        """Write the state after an epoch; the file appears whole or not at all.

        Args:
            state: to write.
        """
        if not self._writes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        head = {
            "format": FORMAT,
            "epoch": state.epoch,
            "cursor": state.cursor.as_dict(),
            "learning_rate": asdict(state.learning_rate),
            "schedule": list(state.schedule),
            "trains": list(state.trains),
            "pretrained": list(state.pretrained),
            "generators": state.generators,
            "further": list(state.further),
            "processes": [asdict(each) for each in state.processes],
        }
        arrays = {f"optimizer_{i}": value for i, value in enumerate(state.optimizer)}
        arrays.update({f"random_{i}": value for i, value in enumerate(state.random)})
        arrays.update({f"best_{i}": value for i, value in enumerate(state.best)})
        for n, values in enumerate(state.further.values()):
            arrays.update({f"further{n}_{i}": value for i, value in enumerate(values)})
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
            names: of the phases of this schedule, as `changes.shown` writes them.

        Raises:
            ScheduleError: the file is broken, was written by a newer version, or is that of a
                schedule with other phases.
        """
        if not self.has(epoch):
            return None
        state = self._read(self._path(epoch))
        if state.names != tuple(names):
            raise ScheduleError(
                f"{self._path(epoch)} is the state of another schedule: "
                f"{', '.join(state.names)}; this one is {', '.join(names)}. Use another folder, "
                "or remove that one."
            )
        return state

    def pretrained(self, names: Sequence[str]) -> Optional[Tuple[str, ...]]:
        """The BN that were pretrained when the run of this schedule began, from any of its
        states; None where there is none."""
        for epoch in reversed(self.epochs()):
            try:
                state = self._read(self._path(epoch))
            except ScheduleError:
                continue  # It is not the one to go on with, so it may be broken.
            if state.names == tuple(names):
                return state.pretrained
        return None

    def epochs(self) -> Tuple[int, ...]:
        """The epochs after which a state was kept, in order."""
        numbers = (path.stem.rsplit("-", 1)[-1] for path in self._files())
        return tuple(sorted(int(number) for number in numbers if number.isdecimal()))

    def remove_from(self, epoch: int) -> Tuple[int, ...]:
        """Remove the states after an epoch and later ones: an earlier run got that far.

        Returns:
            The epochs of the states that were removed.
        """
        later = tuple(each for each in self.epochs() if each >= epoch)
        for each in later if self._writes else ():
            self._path(each).unlink(missing_ok=True)
        return later

    def has(self, epoch: int) -> bool:
        """Whether the state after an epoch was kept."""
        return self._path(epoch).exists()

    def finish(self) -> None:
        """Remove the files once the run has ended as planned, unless they are to stay."""
        if not self._keep:
            self.clear()

    def clear(self) -> None:
        """Remove the files, and the folder where it is empty then."""
        if not self._writes:
            return
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
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                head = json.loads(str(stored["head"]))
                if head["format"] != FORMAT:
                    raise _other_version(path, head["format"])
                return SavedState(
                    epoch=int(head["epoch"]),
                    cursor=PhaseCursor(**head["cursor"]),
                    learning_rate=LearningRateState(**head["learning_rate"]),
                    schedule=tuple(head["schedule"]),
                    trains=tuple(head["trains"]),
                    pretrained=tuple(head["pretrained"]),
                    optimizer=_numbered(stored, "optimizer"),
                    random=_numbered(stored, "random"),
                    best=_numbered(stored, "best"),
                    generators=dict(head["generators"]),
                    further={
                        name: _numbered(stored, f"further{n}")
                        for n, name in enumerate(head["further"])
                    },
                    processes=tuple(ProcessStates(**each) for each in head.get("processes", ())),
                )
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise ScheduleError(
                f"{path} is no state file of a PhaseScheduler, or it is broken ({error}). Remove "
                "it to begin the schedule at its first phase."
            ) from error


def _other_version(path: Path, found: Any) -> ScheduleError:
    newer = isinstance(found, int) and found > FORMAT
    todo = "Go on with that version" if newer else "Go on with the version that wrote it"
    return ScheduleError(
        f"{path} was written by {'a newer' if newer else 'an older'} version of keras_bnguard: "
        f"its format is {found}, this version reads {FORMAT}. {todo}, or remove the file to begin "
        "the schedule at its first phase."
    )


def _numbered(stored: Any, name: str) -> List[np.ndarray]:
    count = sum(key.startswith(f"{name}_") for key in stored.files)
    return [stored[f"{name}_{i}"] for i in range(count)]
