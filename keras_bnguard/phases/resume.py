"""What a `fit` that begins in mid-schedule finds: a backup, an optimizer that was loaded."""

from __future__ import annotations

from typing import Any, Callable, Optional, Sequence

from keras_bnguard.backends.patches.fit_scope import FitArguments, find_backup
from keras_bnguard.backends.values.keras_backup import Backup, read_backup
from keras_bnguard.phases.phase import Phase


def backup_of(arguments: FitArguments) -> Optional[Backup]:
    """What the `BackupAndRestore` of this `fit` will restore, None where there is nothing."""
    callback = find_backup(arguments.callbacks)
    return None if callback is None else read_backup(callback)


class KeptOptimizer:
    """The optimizer a model comes with, as after `load_model` or an earlier `fit`.

    Going through the phases up to the one training goes on in leaves it without the slots of
    what the first phase freezes; this puts them back.

    Attributes:
        steps: how many it has taken with the variables that trained then; 0 for a new one.
    """

    def __init__(self, backend: Any, model: Any) -> None:
        self._backend, self._model = backend, model
        self.steps = (
            backend.optimizer.iterations(model) if backend.optimizer.knows_exactly(model) else 0
        )
        self._state = backend.optimizer.state(model) if self.steps else []
        self._trained = [id(v) for v in model.trainable_variables]

    def put_back(self) -> bool:
        """Whether it was made for what trains now; then all but the rate, which the phase sets,
        is as it was."""
        backend, model = self._backend, self._model
        if not self.steps or self._trained != [id(v) for v in model.trainable_variables]:
            return False
        learning_rate = backend.optimizer.learning_rate(model)
        if not backend.optimizer.load_state(model, self._state):
            return False
        if learning_rate is not None:
            backend.optimizer.set_learning_rate(model, learning_rate)
        return True


def steps_before(
    phases: Sequence[Phase], index: int, epoch: int, steps: int, state: Callable[[int], str]
) -> int:
    """The iteration count at which a phase began, if all epochs had equally many steps.

    Args:
        phases: with epoch counts up to `epoch`. steps: what the optimizer counts before it.
        state: index -> "carry" or "reset", where counting begins anew.
    """
    begins = [0]
    for phase in phases[:-1]:
        begins.append(begins[-1] + (phase.epochs or 0))
    entered = [i for i in range(len(phases)) if begins[i] < epoch]
    zero = max((begins[i] for i in entered if state(i) == "reset"), default=0)
    return round(steps * max(begins[index] - zero, 0) / max(epoch - zero, 1))
