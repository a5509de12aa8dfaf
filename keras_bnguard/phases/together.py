"""A schedule in several processes: one verdict, one state file, one place to go on from."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from keras_bnguard.backends.call_stack import warn_user
from keras_bnguard.backends.processes.exchange import can_exchange, exchange
from keras_bnguard.backends.processes.place import Place, Source, current_place
from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases.phase import Phase
from keras_bnguard.phases.resuming.checkpoint import ProcessStates, SavedState, StateFile


class Together:
    """What the processes of one scheduled training agree on.

    All of them run the schedule, so each calls every method here as often as the others do.
    Alone, or where nothing connects the processes, each decides for itself.

    Args:
        model: the model in training.
        file: where this process is to keep the state, None for nowhere.

    Attributes:
        file: the same for this process: of those that share a folder, the first writes.
    """

    def __init__(self, model: Any, file: Optional[StateFile]) -> None:
        self._place: Place = current_place(model)
        self._connected = not self._place.is_alone and can_exchange(self._place)
        self.file = self._shared(file)

    def _shared(self, file: Optional[StateFile]) -> Optional[StateFile]:
        if file is None or self._place.is_alone:
            return file
        if not self._connected:
            return file if self._place.is_chief else file.for_reading()
        mine = os.path.realpath(file.folder)
        folders = exchange(mine, self._place)
        return file if folders.index(mine) == self._place.rank else file.for_reading()

    def check(self, phases: Sequence[Phase], epoch: int) -> None:
        """Compare where the processes begin, before the first step.

        Args:
            phases: of the schedule.
            epoch: where this process begins.

        Raises:
            ScheduleError: they begin at different epochs, or some do not see the state.
        """
        if self._place.source is Source.HOROVOD and any(phase.monitor for phase in phases):
            warn_user(
                "each process judges its own logs, so phases may end at different epochs. Put "
                "hvd.callbacks.MetricAverageCallback() before the PhaseScheduler."
            )
        if not self._connected:
            return
        file = self.file
        sees = file is None or not epoch or file.has(epoch - 1)
        found = exchange((epoch, sees), self._place)
        if len({epoch for epoch, _ in found}) > 1:
            each = ", ".join(f"process {rank} at {epoch}" for rank, (epoch, _) in enumerate(found))
            raise ScheduleError(
                f"the processes begin at different epochs: {each}. Let all of them restore the "
                "same backup, or pass all the same initial_epoch."
            )
        blind = [str(rank) for rank, (_, sees) in enumerate(found) if not sees]
        if file is not None and blind and len(blind) < len(found):
            raise ScheduleError(
                f"the state after epoch {epoch - 1} is not in {file.folder} for process "
                f"{', '.join(blind)}, and is there for the others. Give PhaseScheduler(state=...) "
                "a folder that all processes share."
            )

    def logs(self, logs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The logs of an epoch as all processes judge them: numbers are means over processes."""
        if not self._connected:
            return logs
        numbers = {
            key: float(np.asarray(value, np.float64).item())
            for key, value in logs.items()
            if np.size(value) == 1
        }
        parts: Dict[str, List[float]] = {}
        for each in exchange(numbers, self._place):
            for key, value in each.items():
                parts.setdefault(key, []).append(value)
        return {**logs, **{key: _mean(values) for key, values in parts.items()}}

    def write(self, saved: SavedState) -> None:
        """Write the state with the random states of all processes, and wait until it is there."""
        if self.file is None:
            return
        if not self._connected:
            self.file.write(saved)
            return
        self.file.write(saved.with_processes(exchange(ProcessStates.of(saved), self._place)))
        exchange(None, self._place)

    def mine(self, saved: SavedState) -> SavedState:
        """A state that was read, with the random states of this process."""
        return saved.of_process(self._place.rank)


def _mean(values: Sequence[float]) -> float:
    """Equal values keep their bits."""
    return values[0] if len(set(values)) == 1 else float(np.mean(values))
