"""`PhaseScheduler`: freeze and unfreeze in phases, inside one `fit`."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.callback_base import Hooks, joined
from keras_bnguard.backends.patches.fit_scope import (
    FitArguments,
    callback_list,
    come_after,
    find_backup,
    fit_arguments,
    named,
    put_backup_behind,
)
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases.builders import fine_tune, gradual
from keras_bnguard.phases.checkpoint import StateFile
from keras_bnguard.phases.checks import built_model, ready_model
from keras_bnguard.phases.phase import Phase, check_phases
from keras_bnguard.phases.plan import check_reach, make_plan, plan_table
from keras_bnguard.phases.run import PhaseRun
from keras_bnguard.phases.yaml import from_yaml, to_yaml
from keras_bnguard.report.phase_plot import plot_phases
from keras_bnguard.report.phase_text import phase_lines


class PhaseScheduler(Hooks):
    """Keras callback that runs a whole freeze / unfreeze recipe in one `fit`.

    At the begin of each phase it sets the flag of every layer, makes an optimizer for the
    weights that train now, sets the rate, holds BN as the phase says, and makes a new train
    function; metrics, History, the progress bar and other callbacks go on. BN that carried
    trained statistics when training began stay in inference mode through all phases, unless
    a phase says otherwise; a fresh head's BN trains.

    Args:
        phases: list of `Phase`.
        optimizer_state: for phases that do not say: "carry" keeps slots and iteration count
            of the weights that go on training, "reset" starts a new optimizer, as compiling
            again does. Defaults to "carry".
        state: folder for what is needed to go on after a kill; it stays until a `fit` begins
            at epoch 0. Defaults to one beside the `backup_dir` of a `BackupAndRestore` of the
            same `fit`, which goes when that backup does; None without one.
        verbose: 1 prints the plan at the begin and one line per transition. Defaults to 1.

    A `BackupAndRestore` of the same `fit` runs after the scheduler, wherever it is in the list.
    The flags and the optimizer of the last phase stay on the model when `fit` ends; its hold on
    BN and its `layer_decay` do not. After an exception inside `fit` those stay until the next
    scheduled `fit`; before, `compile` takes them off.

    Attributes:
        phase: the `Phase` under way, None before training.
        history: one dict per finished epoch: epoch, phase, learning_rate, layer_decay,
            trainable_share, logs.

    Raises:
        ScheduleError: before the first step: phases without end or with one name, a phase that
            trains nothing, a validation monitor without validation data, a rate that a compiled
            LearningRateSchedule would fight, an uncompiled or unbuilt model, an optimizer
            without a learning rate of its own (MultiOptimizer).
        SelectorError: `train` matches no layer; names the phase and lists near misses.

    Example:
        model.fit(x, y, epochs=15, callbacks=[bng.PhaseScheduler([
            bng.Phase("head", train="head*", learning_rate=1e-3, epochs=5),
            bng.Phase("all", train="*", learning_rate=1e-5),
        ])])
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> PhaseScheduler:
        made: PhaseScheduler = object.__new__(joined(cls))
        return made

    def __init__(
        self,
        phases: Sequence[Phase],
        optimizer_state: str = "carry",
        state: Any = None,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        self.phases: Tuple[Phase, ...] = check_phases(phases)
        if optimizer_state not in ("carry", "reset"):
            raise ScheduleError(
                f"optimizer_state={optimizer_state!r}: expected 'carry' or 'reset'."
            )
        self._default_state = optimizer_state
        self._state_folder = state
        self._verbose = verbose
        self._run: Optional[PhaseRun] = None
        self._started, self._first = False, True
        self._keep_files = True
        self.history: List[Dict[str, Any]] = []
        if any(phase.warmup for phase in self.phases):
            # Only where it is needed: a hook at every batch costs a little.
            self.on_train_batch_begin = self._warm_up

    @property
    def phase(self) -> Optional[Phase]:
        """The phase under way, or the one training ended in; None before training."""
        return None if self._run is None else self.phases[self._run.tracker.phase]

    # ------------------------------------------------------------------ hooks
    def set_model(self, model: Any) -> None:
        super().set_model(model)
        arguments = fit_arguments(self._model)
        if arguments is not None:
            put_backup_behind(self)
            self._prepare(arguments)

    def on_train_begin(self, logs: Optional[Mapping[str, Any]] = None) -> None:
        if self._run is None or self._started:
            # A CallbackList that was made outside of fit, or is used again.
            arguments = fit_arguments(self._model)
            if arguments is None:
                raise ScheduleError(
                    "PhaseScheduler works inside model.fit only; this loop did not call fit."
                )
            self._prepare(arguments)
        self._started = True
        listed = callback_list(self)
        if listed is not None:
            # Where averages are in the weights between epochs, they go out before a phase begins.
            come_after(listed, self, lambda each: named(each, "SwapEMAWeights"))
        run = self._running
        if self._verbose:
            print(plan_table(run.plan, run.rate_before))
        self._say()

    def on_epoch_begin(self, epoch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        run = self._running
        if self._first:
            self._first = False
            run.first_epoch(epoch)
        run.epoch_begins(epoch)
        self._say()

    def on_epoch_end(self, epoch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        self._note(epoch, logs or {})
        if self._running.epoch_ends(epoch, logs or {}):
            self.model.stop_training = True

    def on_train_end(self, logs: Optional[Mapping[str, Any]] = None) -> None:
        self._running.ends(keep_files=self._keep_files)

    def _warm_up(self, batch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        self._running.warm_up(batch)

    # --------------------------------------------------------------- internal
    @property
    def _running(self) -> PhaseRun:
        if self._run is None:
            raise ScheduleError("PhaseScheduler works inside model.fit only.")
        return self._run

    def _prepare(self, arguments: FitArguments) -> None:
        """Resolve the plan and enter the phase training begins in, before any other hook."""
        self._run, self._started, self._first = None, False, True
        self.history = []
        if sum(isinstance(each, PhaseScheduler) for each in arguments.callbacks) > 1:
            raise ScheduleError(
                "two PhaseSchedulers in one fit would undo each other's phases. Put all phases "
                "into one."
            )
        backup = find_backup(arguments.callbacks)
        file = None
        if self._state_folder is not None:
            file = StateFile(self._state_folder)
        elif backup is not None:
            # Beside the backup, not in it: Keras may remove everything that is in there.
            file = StateFile(os.fspath(backup.backup_dir).rstrip("/\\") + "-phases")
        self._keep_files = self._state_folder is not None or not getattr(
            backup, "delete_checkpoint", True
        )
        snapshot = ready_model(self._model)
        run = PhaseRun(snapshot, self.phases, arguments, file, self._default_state)
        check_reach(run.plan, arguments.epochs)
        run.begin()
        self._run = run

    def _say(self) -> None:
        lines, self._running.said[:] = list(self._running.said), []
        if self._verbose:
            for line in lines:
                print(f"PhaseScheduler: {line}")

    # ----------------------------------------------------------------- report
    def _note(self, epoch: int, logs: Mapping[str, Any]) -> None:
        run = self._running
        planned = run.plan[run.tracker.phase]
        self.history.append(
            {
                "epoch": epoch,
                "phase": planned.phase.name,
                "learning_rate": backend_for(self._model).optimizer.learning_rate(self._model),
                "layer_decay": planned.phase.layer_decay,
                "trainable_share": planned.parameters / max(planned.total, 1),
                "logs": {key: _plain(value) for key, value in logs.items()},
            }
        )

    @classmethod
    def gradual(
        cls,
        model: Any,
        *,
        optimizer_state: str = "carry",
        state: Any = None,
        verbose: int = 1,
        **schedule: Any,
    ) -> PhaseScheduler:
        """A scheduler made from the architecture: the head, then the backbone from the top.

        Args:
            model: a built model. schedule: what `keras_bnguard.phases.builders.gradual` takes:
                backbone, stages, epochs, head_learning_rate, learning_rate, decay, patience,
                monitor, batch_norm, layer_decay. The others: see the class.
        """
        return cls(gradual(model, **schedule), optimizer_state, state, verbose)

    @classmethod
    def fine_tune(
        cls,
        model: Any,
        *,
        optimizer_state: str = "carry",
        state: Any = None,
        verbose: int = 1,
        **schedule: Any,
    ) -> PhaseScheduler:
        """The classic: the head first, then everything at a tenth of the rate or less.

        Args:
            model: a built model. schedule: what `keras_bnguard.phases.builders.fine_tune` takes:
                head_epochs, base_lr, epochs, backbone, factor, batch_norm, layer_decay. The
                others: see the class.
        """
        return cls(fine_tune(model, **schedule), optimizer_state, state, verbose)

    @classmethod
    def from_yaml(
        cls, source: Any, *, optimizer_state: str = "carry", state: Any = None, verbose: int = 1
    ) -> PhaseScheduler:
        """A scheduler from YAML text or the path of a YAML file, read safely.

        Args:
            source: the text or path. The others: see the class.

        Raises:
            ScheduleError: with file and line. MissingExtraError: PyYAML is not installed.
        """
        return cls(from_yaml(source), optimizer_state, state, verbose)

    def to_yaml(self) -> str:
        """The phases as YAML; `from_yaml` reads them back equal."""
        return to_yaml(self.phases)

    def plan(self, model: Any) -> str:
        """Dry run: the table `fit` would print, without data and without changing the model.

        Args:
            model: a built model; it need not be compiled.

        Raises:
            ScheduleError: it is not built, or a phase trains nothing.
            SelectorError: `train` matches no layer.
        """
        snapshot = built_model(model)
        optimizer = getattr(model, "optimizer", None)
        learning_rate = (
            None if optimizer is None else snapshot.backend.optimizer.learning_rate(model)
        )
        return plan_table(make_plan(snapshot, self.phases), learning_rate)

    def summary(self) -> str:
        """What happened so far: one line per phase that has begun."""
        return phase_lines([phase.name for phase in self.phases], self.history)

    def plot(self, path: Optional[str] = None) -> Any:
        """Draw what happened so far: phases, rate, trainable share and losses over epochs.

        Args:
            path: where to save the picture; the ending says the format. Defaults to None.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            MissingExtraError: matplotlib is not installed.
            ScheduleError: no epoch has been trained yet.
        """
        if not self.history:
            raise ScheduleError("nothing to plot: this scheduler has not trained an epoch yet.")
        return plot_phases(self.history, path)

    def __reduce__(self) -> Any:
        public = getattr(type(self), "_bng_public", type(self))
        return _rebuild, (
            public,
            (self.phases, self._default_state, self._state_folder, self._verbose),
        )

    def __deepcopy__(self, memo: Any) -> PhaseScheduler:
        rebuild, arguments = self.__reduce__()
        copied: PhaseScheduler = rebuild(*arguments)
        return copied


def _plain(value: Any) -> Any:
    """A log as a float; one that has several values, as a metric per class, as a list."""
    values = np.asarray(value, np.float64)
    return float(values.item()) if values.size == 1 else values.tolist()


def _rebuild(cls: type, arguments: Tuple[Any, ...]) -> Any:
    return cls(*arguments)
