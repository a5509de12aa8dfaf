"""`PhaseScheduler`: freeze and unfreeze in phases, inside one `fit`."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from keras_bnguard.backends.callback_base import Hooks, ensure_model
from keras_bnguard.backends.patches import fit_scope
from keras_bnguard.errors import ScheduleError
from keras_bnguard.inference.proof import parse_on_failure
from keras_bnguard.phases.builders import Epochs, fine_tune, gradual
from keras_bnguard.phases.checks import built_model, ready_model
from keras_bnguard.phases.fields import BatchNormMode, OptimizerState
from keras_bnguard.phases.learning_rates import RelativeRate
from keras_bnguard.phases.phase import Phase, check_phases
from keras_bnguard.phases.resuming.point import folder_path, state_file_of
from keras_bnguard.phases.run import PhaseRun, dry_run
from keras_bnguard.phases.yaml import from_yaml, to_yaml
from keras_bnguard.records import OnFailure
from keras_bnguard.records.shown import shown
from keras_bnguard.report.phase_plot import plot_phases
from keras_bnguard.report.phase_text import phase_lines, scheduler_html, scheduler_summary


@shown(scheduler_summary, scheduler_html)
class PhaseScheduler(Hooks):
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

    def __init__(
        self,
        phases: Sequence[Phase],
        optimizer_state: str = OptimizerState.CARRY,
        state: Any = None,
        verbose: int = 1,
        on_failure: str = OnFailure.RAISE,
    ) -> None:
        super().__init__()
        self.phases: Tuple[Phase, ...] = check_phases(phases)
        self.history: List[Dict[str, Any]] = []
        self._optimizer_state = OptimizerState.parse(optimizer_state, "optimizer_state")
        self._state_folder = None if state is None else folder_path(state)
        self._verbose = verbose
        self._on_failure = parse_on_failure(on_failure)
        self._run: Optional[PhaseRun] = None
        self._run_is_new = False
        if any(phase.warmup for phase in self.phases):
            self.call_at_batch_begin(self._before_batch)

    @property
    def phase(self) -> Optional[Phase]:
        """The phase under way, or the one training ended in; None before training."""
        return None if self._run is None else self.phases[self._run.state.cursor.phase]

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
        self._running.print_plan()

    def on_epoch_begin(self, epoch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        self._running.epoch_begins(epoch)

    def on_epoch_end(self, epoch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        run = self._running
        self.history.append(run.describe_epoch(epoch, logs or {}))
        if run.epoch_ends(epoch, logs or {}):
            self.model.stop_training = True

    def on_train_end(self, logs: Optional[Mapping[str, Any]] = None) -> None:
        self._running.end()

    def _before_batch(self, batch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        self._running.batch_begins(batch)

    @property
    def _running(self) -> PhaseRun:
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

    @classmethod
    def gradual(
        cls,
        model: Any,
        backbone: str = "",
        stages: int = 4,
        epochs: Epochs = 5,
        head_learning_rate: float = 1e-3,
        learning_rate: float = 1e-4,
        decay: Union[RelativeRate, float] = 0.5,
        patience: Optional[int] = None,
        monitor: str = "val_loss",
        batch_norm: str = BatchNormMode.INFERENCE,
        layer_decay: float = 1.0,
        *,
        optimizer_state: str = OptimizerState.CARRY,
        state: Any = None,
        verbose: int = 1,
        on_failure: str = OnFailure.RAISE,
    ) -> PhaseScheduler:
        """A scheduler made from the architecture: the head, then the backbone from the top.

        The backbone is cut at blocks, never inside one, so that the stages unfreeze about
        equally many parameters each. The last phase trains everything.

        Args:
            model: a built model.
            backbone: path of the pretrained sub-model. Defaults to "": found by its size, or by
                its trained BN statistics.
            stages: in how many steps the backbone is unfrozen. Defaults to 4.
            epochs: of each phase, or a list with one entry per phase; None leaves the end to
                `patience`. Defaults to 5.
            head_learning_rate: of the first phase. Defaults to 1e-3.
            learning_rate: of the second phase. Defaults to 1e-4.
            decay: learning rate of each later phase, as a factor of the one before. Defaults to
                0.5.
            patience: ends a phase, except the last, also when `monitor` has not improved for so
                many epochs. Defaults to None: never.
            monitor: a key of `logs`. Defaults to "val_loss".
            batch_norm: see `Phase`. Defaults to "inference".
            layer_decay: see `Phase`. Defaults to 1.0.
            optimizer_state: see the class. Defaults to "carry".
            state: see the class. Defaults to None.
            verbose: see the class. Defaults to 1.
            on_failure: see the class. Defaults to "raise".

        Raises:
            ScheduleError: nothing lies outside the backbone, or the phases would never end.
            SelectorError: there is no layer at the path `backbone`.
        """
        phases = gradual(
            model, backbone, stages, epochs, head_learning_rate, learning_rate, decay, patience,
            monitor, batch_norm, layer_decay,
        )  # fmt: skip
        return cls(phases, optimizer_state, state, verbose, on_failure)

    @classmethod
    def fine_tune(
        cls,
        model: Any,
        head_epochs: int = 5,
        base_lr: float = 1e-3,
        epochs: Optional[int] = None,
        backbone: str = "",
        factor: float = 0.1,
        batch_norm: str = BatchNormMode.INFERENCE,
        layer_decay: float = 1.0,
        warmup: int = 0,
        *,
        optimizer_state: str = OptimizerState.CARRY,
        state: Any = None,
        verbose: int = 1,
        on_failure: str = OnFailure.RAISE,
    ) -> PhaseScheduler:
        """The classic two phases: the head first, then everything at a tenth or less.

        Args:
            model: a built model.
            head_epochs: epochs of the first phase. Defaults to 5.
            base_lr: learning rate of the first phase. Defaults to 1e-3.
            epochs: epochs of the second phase. Defaults to None: all that `fit` has.
            backbone: as in `gradual`. Defaults to "".
            factor: second learning rate as a factor of the first, at most 0.1. Defaults to 0.1.
            batch_norm: see `Phase`. Defaults to "inference".
            layer_decay: of the second phase, see `Phase`. Defaults to 1.0.
            warmup: of the second phase, see `Phase`. Defaults to 0.
            optimizer_state: see the class. Defaults to "carry".
            state: see the class. Defaults to None.
            verbose: see the class. Defaults to 1.
            on_failure: see the class. Defaults to "raise".

        Raises:
            ScheduleError: nothing lies outside the backbone, or `factor` is above 0.1.
            SelectorError: there is no layer at the path `backbone`.
        """
        phases = fine_tune(
            model, head_epochs, base_lr, epochs, backbone, factor, batch_norm, layer_decay, warmup
        )
        return cls(phases, optimizer_state, state, verbose, on_failure)

    @classmethod
    def from_yaml(
        cls,
        source: Any,
        *,
        optimizer_state: str = OptimizerState.CARRY,
        state: Any = None,
        verbose: int = 1,
        on_failure: str = OnFailure.RAISE,
    ) -> PhaseScheduler:
        """A scheduler from YAML text or the path of a YAML file, read safely.

        Args:
            source: the text or path.
            optimizer_state: see the class. Defaults to "carry".
            state: see the class. Defaults to None.
            verbose: see the class. Defaults to 1.
            on_failure: see the class. Defaults to "raise".

        Raises:
            ScheduleError: the text is no schedule; names file and line.
            MissingExtraError: PyYAML is not installed.
        """
        return cls(from_yaml(source), optimizer_state, state, verbose, on_failure)

    def to_yaml(self) -> str:
        """The phases as YAML; `from_yaml` reads them back equal.

        Raises:
            ScheduleError: a phase holds a function, a class or a `LearningRateSchedule`.
            MissingExtraError: PyYAML is not installed.
        """
        return to_yaml(self.phases)

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
