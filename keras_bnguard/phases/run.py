"""One scheduled `fit` of one model: begin or resume, change phases at epoch ends, finish."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.patches.fit_scope import FitArguments, early_stopping_restores
from keras_bnguard.backends.patches.model_hooks import announce_phase
from keras_bnguard.backends.processes.voice import speaks
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.phases.best_weights import FinalState
from keras_bnguard.phases.checks import (
    check_fit,
    warn_of_missing_metrics,
    warn_of_phases_that_never_began,
    warn_of_repeated_phases,
    warn_of_unreached_phases,
)
from keras_bnguard.phases.fields import OptimizerState
from keras_bnguard.phases.first_epoch import FirstEpoch
from keras_bnguard.phases.phase import Phase
from keras_bnguard.phases.plan import make_plan, plan_table
from keras_bnguard.phases.resuming.checkpoint import StateFile
from keras_bnguard.phases.resuming.point import backup_of
from keras_bnguard.phases.resuming.pretrained import finish, pretrained_at_start
from keras_bnguard.phases.resuming.resumption import Resumption
from keras_bnguard.phases.state import ScheduleState
from keras_bnguard.phases.together import Together
from keras_bnguard.phases.transition import Transition
from keras_bnguard.records import OnFailure


class PhaseRun:
    """One scheduled `fit`, from its first hook to its last.

    Args:
        snapshot: the model, built and compiled.
        phases: checked, each with its own `optimizer_state`.
        arguments: of `fit`.
        file: where the state is kept, None for nowhere.
        verbose: print the plan, and one line per transition.
        on_failure: what happens where a BN that is forced does not run in inference mode.

    Attributes:
        state: where the schedule is.

    Raises:
        ScheduleError: what could only fail later; see `PhaseScheduler`.
        SelectorError: a selector matches no layer.
    """

    def __init__(
        self,
        snapshot: ModelSnapshot,
        phases: Tuple[Phase, ...],
        arguments: FitArguments,
        file: Optional[StateFile],
        verbose: bool,
        on_failure: OnFailure,
    ) -> None:
        self._snapshot = snapshot
        self._together = Together(snapshot.model, file)
        self._arguments = arguments
        Transition(snapshot).undo()  # What an exception in an earlier `fit` left behind.
        backup = backup_of(arguments)
        self._together.check(phases, backup.epoch)
        self._resumption = Resumption(
            snapshot, phases, self._together.file, backup, of_process=self._together.mine
        )
        pretrained = self._resumption.pretrained()
        plan = make_plan(snapshot, phases, pretrained)
        self.state = ScheduleState(snapshot, plan, sorted(pretrained), on_failure)
        self._resumption.adapt(plan)
        check_fit(snapshot, phases, arguments)
        warn_of_repeated_phases(plan)
        self._end_is_reported = warn_of_unreached_phases(plan, arguments.epochs)
        before = snapshot.backend.optimizer.learning_rate(snapshot.model)
        self._table = plan_table(self.state.plan, before)
        self._verbose = verbose and speaks(snapshot.model)
        self._messages: List[str] = []
        self._first_epoch_due = True
        self._phase_is_new = True
        self._first_epoch_check = FirstEpoch(snapshot, arguments.callbacks)
        self._first_logs_due = True
        self._written: Optional[Tuple[int, Optional[float]]] = None
        self._final: Optional[FinalState] = None

    # ------------------------------------------------------------------ hooks
    def begin(self, inside: bool = False) -> None:
        """Enter the phase training begins in, before any other callback begins.

        Args:
            inside: the train function exists already. Defaults to False.

        A `BackupAndRestore` loads an optimizer afterwards: that of the epoch before the one it
        begins with, or, taken midway, that of the epoch itself.
        """
        self.state.transition.build_further_optimizers(self.state.plan)
        self._resumption.enter(self.state, inside=inside)
        if self._resumption.point.midway and self.state.next_is_due:
            self.state.enter(self.state.cursor.phase + 1, inside=inside)

    def print_plan(self) -> None:
        """Print the plan, and from where training goes on."""
        if self._verbose:
            print(self._table)
        self._print_messages()

    def epoch_begins(self, epoch: int) -> None:
        """Enter the next phase if it is due."""
        if self._first_epoch_due:
            self._first_epoch_due = False
            self._resumption.first_epoch(epoch, self.state)
            if self.state.ended:
                self._final = FinalState(self._snapshot)
                self._snapshot.model.stop_training = True
            self._print_messages()
        state = self.state
        learning_rate = self._snapshot.backend.optimizer.learning_rate(self._snapshot.model)
        state.warmup.epoch_begins(learning_rate)
        if self._written is not None and self._written != (epoch - 1, learning_rate):
            self._write(epoch - 1)  # A callback set the learning rate after the state was written.
        if state.next_is_due:
            self._enter_next(epoch)
        if self._phase_is_new and self._final is None:
            self._phase_is_new = False
            self._first_epoch_check.begin(state.plan[state.cursor.phase])

    def _enter_next(self, epoch: int) -> None:
        state = self.state
        following = state.plan[state.cursor.phase + 1].phase
        if state.best.arrays:
            state.best.restore()
        elif following.optimizer_state is OptimizerState.RESET:
            state.transition.finish_averages()
        line = state.enter(state.cursor.phase + 1, inside=True)
        self._phase_is_new = True
        self._messages.append(f"epoch {epoch + 1}: {line}")
        self._print_messages()

    def batch_begins(self, batch: int) -> None:
        """Set the learning rate while a warm-up is under way."""
        self._first_epoch_check.expect(
            self.state.warmup.before_batch(batch, self.state.phase.warmup)
        )

    def epoch_ends(self, epoch: int, logs: Mapping[str, Any]) -> bool:
        """Judge the epoch and write the state.

        Returns:
            Whether the schedule is over.
        """
        if self._final is not None:
            return True
        self._first_epoch_check.end()
        state, phase = self.state, self.state.phase
        logs = self._together.logs(logs) if phase.condition is not None else logs
        if self._first_logs_due:
            self._first_logs_due = False
            to_come = [planned.phase for planned in state.plan[state.cursor.phase + 1 :]]
            warn_of_missing_metrics(to_come, logs)
        judged = self._arguments.every_epoch or phase.monitor is None or phase.monitor in logs
        state.cursor.epoch_done(phase, logs, judged)
        if state.cursor.improved and phase.restore_best:
            state.best.keep()
        self._write(epoch)
        return state.ended

    def describe_epoch(self, epoch: int, logs: Mapping[str, Any]) -> Dict[str, Any]:
        """The entry of a finished epoch in `PhaseScheduler.history`."""
        planned = self.state.plan[self.state.cursor.phase]
        return {
            "epoch": epoch,
            "phase": planned.phase.name,
            "learning_rate": self._snapshot.backend.optimizer.learning_rate(self._snapshot.model),
            "layer_decay": planned.phase.layer_decay,
            "trainable_share": planned.share,
            "logs": {key: _as_numbers(value) for key, value in logs.items()},
        }

    def end(self) -> None:
        """Finish: flags and optimizer of the last phase stay on the model, nothing else."""
        if self._final is not None:
            self._final.restore()
        self._first_epoch_check.disarm()
        keras_major = self._snapshot.inventory.stack.keras_major
        if not early_stopping_restores(keras_major, self._arguments.callbacks):
            self.state.best.restore()
        if self._together.file is not None:
            self._together.file.finish()
        self.state.transition.undo()
        announce_phase(self._snapshot.backend, self._snapshot.model, "")
        finish(self._snapshot)
        if not self._end_is_reported:
            warn_of_phases_that_never_began(self.state.plan, self.state.cursor.phase)

    def _print_messages(self) -> None:
        messages = [*self._resumption.messages, *self._messages]
        self._resumption.messages.clear()
        self._messages.clear()
        for line in messages:
            if self._verbose:
                print(f"PhaseScheduler: {line}")

    def _write(self, epoch: int) -> None:
        if self._together.file is not None:
            saved = self.state.capture(epoch)
            self._together.write(saved)
            self._written = (epoch, saved.learning_rate.value)


def dry_run(snapshot: ModelSnapshot, phases: Sequence[Phase]) -> str:
    """The plan of a `fit` from epoch 0, as the table that it would print; nothing changes.

    Args:
        snapshot: a built model, compiled or not.
        phases: checked by `check_phases`.

    Raises:
        ScheduleError: a phase trains nothing.
        SelectorError: a selector matches no layer.
    """
    model = snapshot.model
    compiled = getattr(model, "optimizer", None) is not None
    learning_rate = snapshot.backend.optimizer.learning_rate(model) if compiled else None
    return plan_table(make_plan(snapshot, phases, pretrained_at_start(snapshot)), learning_rate)


def _as_numbers(value: Any) -> Any:
    """A log as a float; one that has several values, as a metric per class, as a list; what a
    callback logged that is no number, as text."""
    try:
        values = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return str(value)
    return float(values.item()) if values.size == 1 else values.tolist()
