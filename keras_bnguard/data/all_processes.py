"""Results of all processes that train together, where each has a part of the rows."""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Tuple, TypeVar

from keras_bnguard.backends.processes.exchange import can_exchange, exchange
from keras_bnguard.backends.processes.place import current_place
from keras_bnguard.errors import DataError, SettingError, UnsupportedModelError

Result = TypeVar("Result")


class AllProcesses:
    """Gathers what each process found in its rows. Every process has to make the same calls.

    Args:
        model: the model.
        all_rows_on_every_worker: each process has all rows, so none waits for another.
        what: the name of what was called, for the error.

    Raises:
        SettingError: each process has a part of the rows, and nothing connects the processes.
    """

    def __init__(self, model: Any, all_rows_on_every_worker: bool, what: str) -> None:
        self._place = current_place(model)
        self._local = self._place.is_alone or all_rows_on_every_worker
        if not self._local and not can_exchange(self._place):
            raise SettingError(
                f"{what} runs in one of {self._place.count} processes, by "
                f"{self._place.source.value}, and nothing here can gather the values of their "
                f"rows. Give each process all rows, and pass all_rows_on_every_worker=True; or "
                "connect the processes first: a tf.distribute strategy, "
                "torch.distributed.init_process_group or jax.distributed.initialize."
            )

    def check(self, local: Callable[[], Result]) -> Result:
        """Run a function in each process; returns what it returned in this one.

        Args:
            local: works on the rows of this process.

        Raises:
            DataError: it failed in another process, so all processes stop.
        """
        found: List[Result] = []
        self.run(lambda: found.append(local()))
        return found[0]

    def run(self, local: Callable[[], Result]) -> List[Result]:
        """Run a function in each process; returns the results of all, in the order of ranks.

        Args:
            local: works on the rows of this process.

        Raises:
            DataError: it failed in another process, so all processes stop.
        """
        if self._local:
            return [local()]
        error: Optional[Exception] = None
        mine: Tuple[Any, str] = (None, "")
        try:
            mine = (local(), "")
        except Exception as problem:
            error = problem
            mine = (None, f"{type(problem).__name__}: {problem}")
        found = exchange(mine, self._place)
        if error is not None:
            raise error
        for rank, (_, message) in enumerate(found):
            if message:
                raise DataError(f"process {rank} failed, so this one stops, too. {message}")
        return [result for result, _ in found]


def refuse_several_processes(model: Any, what: str) -> None:
    """Refuse what trains a model by itself, so that replicas would differ after it.

    Args:
        model: the model.
        what: the name of what was called.

    Raises:
        UnsupportedModelError: a strategy of several processes has made the model.
    """
    place = current_place(model)
    if place.strategy is not None and not place.is_alone:
        raise UnsupportedModelError(
            f"{what} trains the model for some steps, which under a strategy of {place.count} "
            "processes all of them would have to do in step. Load the weights into the same "
            "model outside of the strategy, and call it in one process."
        )
