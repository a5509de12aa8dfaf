"""`PhaseScheduler`: freeze and unfreeze in phases, inside one `fit`."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

from keras_bnguard.arguments import short_traceback
from keras_bnguard.backends.callback_base import ensure_model
from keras_bnguard.backends.patches import fit_scope
from keras_bnguard.errors import ScheduleError
from keras_bnguard.phases.caching.fit import CacheOptions, fit_schedule
from keras_bnguard.phases.caching.fit_call import FitCall
from keras_bnguard.phases.checks import built_model, ready_model
from keras_bnguard.phases.fields import CacheFeatures, OptimizerState
from keras_bnguard.phases.makers import Schedule
from keras_bnguard.phases.phase import Phase
from keras_bnguard.phases.resuming.point import state_file_of
from keras_bnguard.phases.run import PhaseRun, dry_run
from keras_bnguard.records import OnFailure
from keras_bnguard.records.shown import shown
from keras_bnguard.report.phase_plot import plot_phases
from keras_bnguard.report.phase_text import phase_lines, scheduler_html, scheduler_summary


@shown(scheduler_summary, scheduler_html)
class PhaseScheduler(Schedule):
    """Keras callback that runs a whole freeze / unfreeze schedule in one `fit`.

    At the start of each phase it sets `trainable` of every layer, forces BN into inference mode
    as the phase wants it, has the optimizer update the weights that train now, sets the learning
    rate, and makes a new train function. Metrics, History, the progress bar and other callbacks
    go on. BN with trained statistics at the start of training runs in inference mode in all
    phases, unless a phase asks for something else; the BN of a new head trains.

    Args:
        phases: list of `Phase`.
        optimizer_state: for phases without one of their own. "carry" keeps the optimizer state
            variables and the iteration count of the weights that go on training, "reset" starts
            a new optimizer, as compiling again does. Defaults to "carry".
        state: folder for what is needed to resume after a kill; it stays until a `fit` begins
            at epoch 0. Defaults to None: a folder beside the `backup_dir` of a
            `BackupAndRestore` of the same `fit`, which goes when that backup does; without a
            backup nothing is kept. Several processes pass one folder; one of them writes it.
        verbose: 1 prints the plan at the start and one line per transition, 0 nothing.
            Defaults to 1.
        on_failure: as in `force_inference`, for BN that a phase forces. Defaults to "raise".

    A `BackupAndRestore` of the same `fit` runs after the scheduler, wherever it is in the list.
    When `fit` ends, the flags and the optimizer of the last phase stay on the model; forced
    inference and `layer_decay` do not. After an exception inside `fit` those two stay until the
    next scheduled `fit`; before that, `compile` takes them off.

    Attributes:
        phases: as given, as a tuple.
        phase: the `Phase` under way, or the last one; None before training.
        history: one dict per finished epoch, with the keys epoch, phase, learning_rate (None
            under a schedule), layer_decay, trainable_share (0 to 1) and logs.

    Raises:
        ScheduleError: before the first step: phases that never end or share a name, a phase that
            trains nothing, a validation monitor without validation data, a learning rate that
            a compiled LearningRateSchedule would override, an uncompiled or unbuilt model, an
            optimizer without a learning rate of its own (MultiOptimizer).
        SelectorError: `train` matches no layer; names the phase and lists near misses.
        InferenceNotForcedError: a BN does not run in inference mode (`on_failure`).

    Example:
        scheduler = bng.PhaseScheduler.fine_tune(model, head_epochs=5)  # or PhaseScheduler([...])
        model.fit(x, y, epochs=15, callbacks=[scheduler])
    """

    @short_traceback
    def __init__(
        self,
        phases: Sequence[Phase],
        optimizer_state: str = OptimizerState.CARRY,
        state: Any = None,
        verbose: int = 1,
        on_failure: str = OnFailure.RAISE,
    ) -> None:
        super().__init__(phases, optimizer_state, state, verbose, on_failure)
        self.history: List[Dict[str, Any]] = []
        self._run: Optional[PhaseRun] = None
        self._run_is_new = False
        if any(phase.warmup for phase in self.phases):
            self.call_at_batch_begin(self._before_batch)

    @property
    def phase(self) -> Optional[Phase]:
        """The phase under way, or the one training ended in; None before training."""
        return None if self._run is None else self.phases[self._run.state.cursor.phase]

    def fit(
        self,
        model: Any,
        x: Any = None,
        y: Any = None,
        batch_size: Optional[int] = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: Any = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: Optional[int] = None,
        validation_steps: Optional[int] = None,
        validation_batch_size: Optional[int] = None,
        validation_freq: Any = 1,
        *,
        cache_features: Union[bool, str] = "auto",
        cache_folder: Any = None,
        cache_dtype: Optional[str] = None,
    ) -> Any:
        """Train as `model.fit(..., callbacks=[*callbacks, scheduler])` does, faster where it can.

        A phase whose trainable part begins after a frozen trunk trains on features: the outputs
        of the trunk for every row of `x` and of the validation data, computed once when the phase
        begins. Then the whole model goes on. Callbacks see one training of the whole model.
        Weights at the end are those of `model.fit` up to float rounding where the order of the
        rows is the same: with `shuffle=False`, and on JAX and torch with the same random states;
        on TensorFlow `shuffle=True` begins a new order at a phase with features.

        Args:
            model: a compiled functional or sequential model.
            x: as in `model.fit`; only arrays are cached.
            y: as in `model.fit`.
            batch_size: as in `model.fit`; also rows per batch of the pass over the trunk.
            epochs: as in `model.fit`.
            verbose: as in `model.fit`.
            callbacks: list of callbacks, without this scheduler.
            validation_split: as in `model.fit`.
            validation_data: as in `model.fit`.
            shuffle: as in `model.fit`.
            class_weight: as in `model.fit`.
            sample_weight: as in `model.fit`.
            initial_epoch: as in `model.fit`.
            steps_per_epoch: as in `model.fit`.
            validation_steps: as in `model.fit`.
            validation_batch_size: as in `model.fit`.
            validation_freq: as in `model.fit`.
            cache_features: "auto" trains a phase on the data where something forbids features,
                and prints a line that names the layer: Dropout, augmentation, BN in training
                mode, rows that depend on others. True raises there; False never caches. Defaults
                to "auto".
            cache_folder: where features are kept in memory-mapped files, which a run that was
                stopped finds again, and which are removed when training ends. Defaults to None:
                in memory up to 1 GiB, in a temporary folder above.
            cache_dtype: of the features that are kept, such as "float16". Defaults to None: that
                of the trunk.

        Returns:
            The `History` of all epochs.

        Raises:
            ScheduleError: as in `model.fit`; with `cache_features=True` also where a phase with a
                frozen trunk cannot train on features.
        """
        cache = CacheFeatures.parse(cache_features)
        settings = {
            "batch_size": batch_size, "epochs": epochs, "shuffle": shuffle,
            "class_weight": class_weight, "initial_epoch": initial_epoch,
            "steps_per_epoch": steps_per_epoch, "validation_steps": validation_steps,
            "validation_batch_size": validation_batch_size, "validation_freq": validation_freq,
        }  # fmt: skip
        call = FitCall(x, y, sample_weight, validation_data, validation_split, settings)
        options = CacheOptions(cache, cache_folder, cache_dtype, bool(self._verbose))
        return fit_schedule(self, model, call, options, callbacks, verbose)

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        fit_scope.put_backup_behind(self)
        arguments = fit_scope.fit_arguments(self._model)
        if arguments is not None:
            self._prepare(arguments, inside=False)

    def on_train_begin(self, logs: Optional[Mapping[str, Any]] = None) -> None:
        if not self._run_is_new:
            # The CallbackList was made outside of `fit`, or is used again.
            ensure_model(self)
            self._run, arguments = None, fit_scope.fit_arguments(self._model)
            if arguments is not None:
                self._prepare(arguments, inside=True)
        self._run_is_new = False
        fit_scope.order_around_phases(self)
        self.running.print_plan()

    def on_epoch_begin(self, epoch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        self.running.epoch_begins(epoch)

    def on_epoch_end(self, epoch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        run = self.running
        self.history.append(run.describe_epoch(epoch, logs or {}))
        if run.epoch_ends(epoch, logs or {}):
            self.model.stop_training = True

    def on_train_end(self, logs: Optional[Mapping[str, Any]] = None) -> None:
        self.running.end()

    def _before_batch(self, batch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        self.running.batch_begins(batch)

    @property
    def running(self) -> PhaseRun:
        if self._run is None:
            raise ScheduleError("PhaseScheduler works inside model.fit only, not in another loop.")
        return self._run

    def _prepare(self, arguments: fit_scope.FitArguments, inside: bool) -> None:
        """Resolve the plan and enter the phase training begins in, before any other hook.

        `inside`: the train function exists already, so it is made again at once.
        """
        self._run, self._run_is_new = None, False
        self.history = []
        if sum(isinstance(each, PhaseScheduler) for each in arguments.callbacks) > 1:
            raise ScheduleError(
                "two PhaseSchedulers in one fit would undo each other's phases. Put all phases "
                "into one."
            )
        phases = tuple(phase.resolved(self._optimizer_state) for phase in self.phases)
        snapshot, verbose = ready_model(self._model), bool(self._verbose)
        file = state_file_of(arguments, self._state_folder)
        run = PhaseRun(snapshot, phases, arguments, file, verbose, self._on_failure)
        run.begin(inside)
        self._run, self._run_is_new = run, True

    @short_traceback
    def plan(self, model: Any) -> str:
        """Dry run: the table that `fit` prints, without data and without changing the model.

        Args:
            model: a built model; it need not be compiled.

        Raises:
            ScheduleError: it is not built, or a phase trains nothing.
            SelectorError: `train` matches no layer.
        """
        return dry_run(built_model(model), self.phases)

    def summary(self) -> str:
        """What happened so far: one line per phase."""
        return phase_lines([phase.name for phase in self.phases], self.history)

    @short_traceback
    def plot(self, path: Optional[str] = None) -> Any:
        """Draw what happened so far: phases, losses, learning rate and trainable share by epoch.

        Args:
            path: where to save the picture, in the format of its ending. Defaults to None:
                nowhere.

        Returns: the `matplotlib.figure.Figure`.

        Raises:
            MissingExtraError: matplotlib is not installed.
            ScheduleError: no epoch has been trained yet.
        """
        if not self.history:
            raise ScheduleError("nothing to plot: this scheduler has not trained an epoch yet.")
        return plot_phases(self.history, path)
