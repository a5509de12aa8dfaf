"""Ways to make a schedule: from the architecture of a model, and from YAML."""

from __future__ import annotations

from typing import Any, Optional, Sequence, Tuple, Type, TypeVar, Union

from keras_bnguard.arguments import check_verbosity, short_traceback
from keras_bnguard.backends.callback_base import Hooks
from keras_bnguard.inference.proof import parse_on_failure
from keras_bnguard.phases.builders import Epochs, fine_tune, gradual
from keras_bnguard.phases.fields import BatchNormMode, OptimizerState
from keras_bnguard.phases.learning_rates import RelativeRate
from keras_bnguard.phases.phase import Phase, check_phases
from keras_bnguard.phases.resuming.point import folder_path
from keras_bnguard.phases.yaml import from_yaml, to_yaml
from keras_bnguard.records import OnFailure

Made = TypeVar("Made", bound="Schedule")


class Schedule(Hooks):
    """Phases and the settings of their scheduler; see `PhaseScheduler`."""

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
        self._optimizer_state = OptimizerState.parse(optimizer_state, "optimizer_state")
        self._state_folder = None if state is None else folder_path(state)
        self._verbose = check_verbosity("verbose", verbose)
        self._on_failure = parse_on_failure(on_failure)

    @classmethod
    @short_traceback
    def gradual(
        cls: Type[Made],
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
    ) -> Made:
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
    @short_traceback
    def fine_tune(
        cls: Type[Made],
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
    ) -> Made:
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
    @short_traceback
    def from_yaml(
        cls: Type[Made],
        source: Any,
        *,
        optimizer_state: str = OptimizerState.CARRY,
        state: Any = None,
        verbose: int = 1,
        on_failure: str = OnFailure.RAISE,
    ) -> Made:
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
