"""What happened to a model while it trained: one record per thing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Optional, Tuple

import numpy as np

from keras_bnguard.records.model import Inventory
from keras_bnguard.records.modes import ExpectedMode, RunMode
from keras_bnguard.records.moments import BEFORE_FIT, Moment


@dataclass(frozen=True)
class OptimizerFacts:
    """The optimizer of a model, as far as rules need it.

    Attributes:
        class_name: name of its class.
        built: whether it has its state variables.
        iterations: steps taken so far.
        unknown: trainable variables of the model that it has no state for.
        stale: variables it has state for that no longer train.
        learning_rate: the present value, also of a schedule; None where it cannot be read.
        learning_rate_is_schedule: whether it is a `LearningRateSchedule`.
        adaptive: whether it is of the family of Adam or RMSprop.
        learning_rate_writers: classes of callbacks of this `fit` that assign the learning rate;
            None where the callbacks are not known.
        learning_rate_settled: whether nobody can assign the learning rate before the first step.
        weight_decay: decay that is decoupled from the loss, None where there is none.
        decayed: paths of BN whose gamma or beta it reaches; None where that was not collected.
        accumulation: batches per update of the weights.
    """

    class_name: str
    built: bool
    iterations: int = 0
    unknown: Tuple[str, ...] = ()
    stale: Tuple[str, ...] = ()
    learning_rate: Optional[float] = None
    learning_rate_is_schedule: bool = False
    adaptive: bool = False
    learning_rate_writers: Optional[Tuple[str, ...]] = None
    learning_rate_settled: bool = False
    weight_decay: Optional[float] = None
    decayed: Optional[Tuple[str, ...]] = None
    accumulation: int = 1


@dataclass(frozen=True)
class NormState:
    """The four vectors of one BN, each of shape `(channels,)`.

    Attributes:
        mean: moving mean, None where the layer has none.
        variance: moving variance, None where the layer has none.
        gamma: scale. Defaults to None: the layer has none.
        beta: offset. Defaults to None: the layer has none.
    """

    mean: Optional[np.ndarray]
    variance: Optional[np.ndarray]
    gamma: Optional[np.ndarray] = None
    beta: Optional[np.ndarray] = None


@dataclass(frozen=True)
class CallSite:
    """How one BN was called in a real training step.

    Attributes:
        explicit: the `training` argument written at this call, or at the call of a layer around
            it below the model; None where none was written, "tensor" where it was no Python
            value.
        arrived: the value that reached the BN's own `call`.
        leaked_from: path of the layer whose explicit argument decided it by a leak, else None.
        switched_by: path of the layer whose default `training=True` decided it, else None.
        values_per_channel: product of the input's shape without the channel axis, None where
            unknown.
        values_per_row: the same without the batch axis.
        flag: the layer's own `trainable` at that moment, as the backend saw it.
        surrounding: the `training` value in force around the call, which Keras should pass on.
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
    IMMEDIATE = "immediate"  # the change counts at the next step
    RAISES = "raises"  # the next step raises an error
    CORRUPTS = "corrupts"  # values are written to the wrong variables


@dataclass(frozen=True)
class TrainableChange:
    """A layer's flag that differs from the one its compiled step was built with.

    Attributes:
        path: path of the layer.
        compiled: the flag the step was built with.
        now: the flag now.
        outcome: what this backend does with the change.
        where: when it was found, before `fit` or inside it.
        source: "file.py:41" where the flag was set, None where unknown.
        is_norm: whether the layer is a BN.
        explained_by: name of another compiled model that contains this one and has the flag as it
            is now, as in a GAN; None where there is none.
        compiled_at: "file.py:30" of the last `compile()`, None where unknown.
        set_for: name of another compiled model that contains this one, or shares the layer and
            was compiled later, and has the flag as it is now, where this model's step obeys it;
            None where there is none.
        set_for_at: "file.py:35" of the `compile()` of that model, None where unknown.
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
    set_for: Optional[str] = None
    set_for_at: Optional[str] = None


@dataclass(frozen=True)
class StatisticsChange:
    """What happened to one BN between the start of training and this check, bit for bit.

    Attributes:
        path: path of the BN.
        expected: the mode it should run in.
        why: the fact that decides `expected`, in words.
        changed: whether mean or variance differ from the start in at least one bit; NaN counts
            as changed.
        changed_since_last: the same, against the previous check.
        ran: the mode it ran in, from the calls of a real step.
        affine_changed: whether gamma or beta changed, None where they were not read.
        mean_shift: mean over channels of |mean_t - mean_0| / sqrt(variance_0 + epsilon).
        log_variance_ratio: mean over channels of
            |log((variance_t + epsilon) / (variance_0 + epsilon))|.
        distance: mean over channels of the Bhattacharyya distance of `statistics/drift.py`.
        max_mean_shift: largest mean shift of a channel, in the unit of `mean_shift`.
        started_at_default: whether it started with mean 0 and variance 1.
        nonfinite: names of the vectors with NaN or infinity.
        negative_channels: channels with a negative variance.
        dead_channels: channels whose variance has vanished.
        min_variance: smallest moving variance.
        median_variance: median of the moving variance.
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
    """An average of the weights that the optimizer keeps, at the end of training.

    Attributes:
        keeper: what keeps it, such as `Adam(use_ema=True)` or `SWA`.
        assigned: whether it is in the weights now; an optimizer of TensorFlow Addons waits for
            `assign_average_vars`.
        swapped_by: classes of callbacks that put it in while training ran, for validation or
            for the files they write.
        distance: norm(average - weights) / norm(weights) at the end of the last epoch, None
            where that was not measured.
        restored: whether a callback restores other weights, such as those of the best epoch.
        recalibrated: whether a `Recalibrate` callback recomputes the statistics after the
            average went in.
    """

    keeper: str
    assigned: bool
    swapped_by: Tuple[str, ...] = ()
    distance: Optional[float] = None
    restored: bool = False
    recalibrated: bool = False


@dataclass(frozen=True)
class AssignedWeights:
    """Weights that callbacks assigned between training steps of a `fit`.

    Attributes:
        moment: when it was seen.
        norms: paths of the BN that training steps updated, and whose statistics are those of
            other weights now.
        distance: norm(assigned - before) / norm(before), over weights that steps train.
        put_back: when the statistics were seen that the BN have now again, while the weights
            are not those of that moment; None where the statistics stayed as they were.
        clipped: whether the values that changed became 0 or one limit.
        callbacks: classes of the callbacks of the user.
        source: "file.py:41" of the one place in them that assigns weights, None where there are
            several or none was found.
    """

    moment: Moment
    norms: Tuple[str, ...]
    distance: float = 0.0
    put_back: Optional[Moment] = None
    clipped: bool = False
    callbacks: Tuple[str, ...] = ()
    source: Optional[str] = None


@dataclass(frozen=True)
class PastRun:
    """The phase or the `fit` before this one, of the same model in the same process.

    Attributes:
        inventory: the model as it was then.
        steps: training steps it took.
        phase: name of the phase, None where no scheduler ran.
        optimizer: class of its optimizer.
        learning_rate: its highest learning rate at a check, None where unknown.
        head_learning_rate: that of the first phase in which pretrained layers were frozen.
        head_optimizer: class of the optimizer of that phase.
        loss: loss of its last epoch, as logged.
        first_loss: loss of its first epoch, as logged.
        loss_function: the loss it was compiled with.
        regularisation: regularization losses (of the terms that counted then, of those that
            count now), both of the weights as they were when the present phase began.
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

    Attributes:
        path: path of the BN.
        initial_weight: remaining weight of the initial value, momentum ** updates.
        start_shift: what that weight does to the mean: distance from the average of the batches
            alone, in standard deviations, median over channels.
        start_log_variance: what it does to the variance, as |log ratio|, median over channels.
        shift: remaining change of the mean to the steady state if training went on as between
            the last two checks, in standard deviations.
        log_variance: remaining change of the variance, as |log ratio|.
        steps: training steps between the last two checks.
    """

    path: str
    initial_weight: float
    start_shift: float
    start_log_variance: float
    shift: float
    log_variance: float
    steps: int
