"""What happened to a model while it trained, and all that rules may look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, FrozenSet, Mapping, Optional, Tuple

import numpy as np

from keras_bnguard.records.data import DataFacts
from keras_bnguard.records.model import Inventory
from keras_bnguard.records.modes import ExpectedMode, RunMode
from keras_bnguard.records.moments import BEFORE_FIT, TRAIN_START, Moment

FACT_DESCRIPTIONS: Mapping[str, str] = {
    "inventory": "the model and its compile state at the start of training",
    "optimizer": "the optimizer",
    "run": "what happened between two checks while training ran",
    "data": "batches of your data: BNGuard(data=...)",
    "fit_settings": "the settings of fit (epochs, steps, batch size)",
}
"""Field of `Facts` -> what it is, in words."""


@dataclass(frozen=True)
class OptimizerFacts:
    """class_name; built: it has made its slots; iterations: steps taken so far;
    unknown: trainable variables of the model that it has no slots for;
    stale: variables it has slots for that no longer train.

    rate: the learning rate now, of a schedule its present value, None where it cannot be read;
    rate_is_schedule: it is a LearningRateSchedule; adaptive: of Adam's or RMSprop's family.
    learning_rate_writers: classes of callbacks of this `fit` that assign the rate, None where the
    callbacks are not known; rate_settled: nobody can assign it before the first step.
    weight_decay: decoupled from the loss; decayed: BN whose gamma or beta it reaches, None
    where nobody looked. accumulation: batches per update of the weights.
    """

    class_name: str
    built: bool
    iterations: int = 0
    unknown: Tuple[str, ...] = ()
    stale: Tuple[str, ...] = ()
    learning_rate: Optional[float] = None
    rate_is_schedule: bool = False
    adaptive: bool = False
    learning_rate_writers: Optional[Tuple[str, ...]] = None
    rate_settled: bool = False
    weight_decay: Optional[float] = None
    decayed: Optional[Tuple[str, ...]] = None
    accumulation: int = 1


@dataclass(frozen=True)
class NormState:
    """The four vectors of one BN, shape `(channels,)`; None where the layer has none."""

    mean: Optional[np.ndarray]
    variance: Optional[np.ndarray]
    gamma: Optional[np.ndarray] = None
    beta: Optional[np.ndarray] = None


@dataclass(frozen=True)
class CallSite:
    """How one BN was called in a real training step.

    explicit: the `training` argument written at this call, or at the call of a layer around
        it below the model; None where none was written. "tensor" where it was no Python value.
    arrived: the value that reached the BN's own `call`.
    leaked_from: path of the layer whose explicit argument decided it by a leak, else None.
    switched_by: path of the layer whose default `training=True` decided it, else None.
    values_per_channel: product of the input's shape without the channel axis, None if unknown.
    values_per_row: the same without the batch axis.
    flag: the layer's own `trainable` at that moment, as the backend saw it.
    surrounding: the `training` value in force around the call, which Keras should hand on.
    """

    explicit: Any
    arrived: Any
    leaked_from: Optional[str] = None
    switched_by: Optional[str] = None
    values_per_channel: Optional[int] = None
    values_per_row: Optional[int] = None
    flag: bool = True
    surrounding: Any = None


class ChangeOutcome(Enum):
    """What a backend does with a `trainable` that was changed after `compile()`."""

    IGNORED = "ignored"  # the compiled step keeps the old flag
    LIVE = "live"  # the change counts at the next step
    RAISES = "raises"  # the next step raises an error
    CORRUPTS = "corrupts"  # values are written to the wrong variables


@dataclass(frozen=True)
class TrainableChange:
    """A layer's flag that differs from the one its compiled step was built with.

    outcome: what this backend does with it.
    where: when it was found, before `fit` or inside it; source: "file.py:41" where known;
    compiled_at: the line of the last `compile()`, where known.
    """

    path: str
    compiled: bool
    now: bool
    outcome: ChangeOutcome
    where: Moment = BEFORE_FIT
    source: Optional[str] = None
    is_norm: bool = False
    explained_by: Optional[str] = None
    compiled_at: Optional[str] = None


@dataclass(frozen=True)
class StatisticsChange:
    """What happened to one BN between train begin and this look, bit for bit.

    moved: mean or variance differ in at least one bit (NaN counts as moved).
    changed_since_last: the same, against the previous look. affine_changed: gamma or beta
    differ (None: not read). mean_shift: mean over channels of |mean_t - mean_0| /
    sqrt(variance_0 + epsilon). log_variance_ratio: mean over channels of
    |log((variance_t + epsilon) / (variance_0 + epsilon))|. distance: mean over channels of the
    Bhattacharyya distance of `drift.py`.
    expected: the mode it should run in; why: the fact that decided it.
    ran: the mode it ran in, from the calls of a real step.
    """

    path: str
    expected: ExpectedMode
    why: str
    changed: bool
    changed_since_last: bool
    ran: RunMode = RunMode.UNKNOWN
    affine_changed: Optional[bool] = None
    mean_shift: float = 0.0
    log_variance_ratio: float = 0.0
    distance: float = 0.0
    max_mean_shift: float = 0.0
    started_at_default: bool = False
    nonfinite: Tuple[str, ...] = ()
    negative_channels: int = 0
    dead_channels: int = 0
    min_variance: float = 1.0
    median_variance: float = 1.0


@dataclass(frozen=True)
class Averaging:
    """An average of the weights that the optimizer keeps, when training ends.

    keeper: `Adam(use_ema=True)`, `SWA`. assigned: it is in the weights now; an optimizer of
    TensorFlow Addons waits for `assign_average_vars`. swapped_by: classes of callbacks that
    put it in while training ran, for validation or for the files they write.
    distance: norm(average - weights) / norm(weights) at the last epoch end, None: not seen.
    restored: a callback puts other weights back, such as those of the best epoch.
    recalibrated: a `Recalibrate` callback takes new statistics after the average went in.
    """

    keeper: str
    assigned: bool
    swapped_by: Tuple[str, ...] = ()
    distance: Optional[float] = None
    restored: bool = False
    recalibrated: bool = False


@dataclass(frozen=True)
class PastRun:
    """The phase or the `fit` before this one, of the same model in the same process.

    inventory: the model as it was then. optimizer: the class of its optimizer. rate: the
    highest learning rate at its looks; head_learning_rate and head_optimizer: those of the first phase
    in which pretrained layers were frozen. loss and first_loss: as logged for its last and its
    first epoch; loss_function: what it was compiled with. regularisation: (terms that counted
    then, terms that count now), both of the weights as they were when the present phase began.
    """

    inventory: Inventory
    steps: int = 0
    phase: Optional[str] = None
    optimizer: str = ""
    learning_rate: Optional[float] = None
    head_learning_rate: Optional[float] = None
    head_optimizer: str = ""
    loss: Optional[float] = None
    first_loss: Optional[float] = None
    loss_function: str = ""
    regularisation: Tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class EmaBias:
    """How far the moving statistics of one BN are behind what its batches had.

    initial_weight: share of the start values that is still in them, momentum ** updates.
    start_shift, start_log_variance: what that share does to them: distance from the average of
        the batches alone, in standard deviations and as |log ratio|, median over channels.
    shift, log_variance: how far they would still move if training went on as between the last
        two looks, which were `steps` training steps apart; the same units.
    """

    path: str
    initial_weight: float
    start_shift: float
    start_log_variance: float
    shift: float
    log_variance: float
    steps: int


@dataclass(frozen=True)
class RunFacts:
    """What is known once training runs. steps: training steps since train begin.

    called: a real step was observed, so `calls` is complete for it.
    recompiled: `compile()` ran inside `fit` and left no train function.
    optimizer_started: the optimizer's iteration count at train begin.
    ended: training is over. averaging: known then, None where no average is kept.
    phase: the name a scheduler gave the present phase. phase_steps: steps taken in it, all of
    them where no scheduler runs. losses: `logs["loss"]` of the epochs of the phase so far.
    before: the phase or `fit` before, None where nothing was seen of one.
    ema_biases: how far statistics are behind; known then, None before.
    calls_observable: the guard can see how each BN is called in a step. It cannot in a custom
        training loop that it only sees through its optimizer.
    trained_elsewhere: paths of BN that another model may have updated in its own steps.
    """

    moment: Moment = TRAIN_START
    epoch: Optional[int] = None
    steps: int = 0
    trainable_changes: Tuple[TrainableChange, ...] = ()
    statistics_changes: Tuple[StatisticsChange, ...] = ()
    calls: Mapping[str, Tuple[CallSite, ...]] = field(default_factory=dict)
    called: bool = False
    recompiled: Optional[str] = None
    optimizer_started: int = 0
    ended: bool = False
    averaging: Optional[Averaging] = None
    phase: Optional[str] = None
    phase_steps: int = 0
    losses: Tuple[float, ...] = ()
    loss_function: str = ""
    before: Optional[PastRun] = None
    ema_biases: Optional[Tuple[EmaBias, ...]] = None
    calls_observable: bool = True
    trained_elsewhere: FrozenSet[str] = frozenset()


@dataclass(frozen=True)
class Facts:
    """All that rules may look at. A rule that needs a fact that is None ends as *skipped*.

    Attributes:
        inventory: the BN layers of the model, their flags and their calls.
        optimizer: the optimizer and its variables.
        run: what happened since the start of training.
        data: what was measured on batches of the user's data.
        fit_settings: "epochs", "steps", "batch_size" and the like, as `fit` got them.
    """

    inventory: Optional[Inventory] = None
    optimizer: Optional[OptimizerFacts] = None
    run: Optional[RunFacts] = None
    data: Optional[DataFacts] = None
    fit_settings: Optional[Mapping[str, Any]] = None

    def has(self, name: str) -> bool:
        """Whether a fact is there; data of which no batch could be read are not."""
        unreadable = name == "data" and self.data is not None and bool(self.data.unreadable)
        return getattr(self, name) is not None and not unreadable
