"""All facts that rules may use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, FrozenSet, Mapping, Optional, Tuple

from keras_bnguard.records.data import DataFacts
from keras_bnguard.records.model import Inventory
from keras_bnguard.records.moments import TRAIN_START, Moment
from keras_bnguard.records.outside_training import InferencePass, OutsideChange
from keras_bnguard.records.training import (
    AssignedWeights,
    Averaging,
    CallSite,
    EmaBias,
    OptimizerFacts,
    PastRun,
    StatisticsChange,
    TrainableChange,
)

FACT_DESCRIPTIONS: Mapping[str, str] = {
    "inventory": "the model and its compile state at the start of training",
    "optimizer": "the optimizer",
    "run": "what happened between two checks while training ran",
    "data": "batches of your data: BNGuard(data=...)",
    "fit_settings": "the settings of fit (epochs, steps, batch size)",
}
"""Field of `Facts` -> what it is, in words."""


@dataclass(frozen=True)
class RunFacts:
    """What is known once training runs.

    Attributes:
        moment: when the facts were collected.
        epoch: number of the epoch, from 0; None outside one.
        steps: training steps since the start of training.
        trainable_changes: flags that differ from those the step was built with.
        statistics_changes: what happened to each BN since the start of training.
        calls: path of a BN -> its calls in a real training step.
        called: whether a real step was observed, so that `calls` is complete for it.
        recompiled: where `compile()` ran inside `fit` and left no train function, else None.
        optimizer_started: the optimizer's iteration count at the start of training.
        ended: whether training is over.
        averaging: the average of the weights, known at the end; None where none is kept.
        assigned: weights that callbacks assigned between steps; None where none were seen.
        unmoved: paths of layers that another model's flags froze (`TrainableChange.set_for`) and
            whose weights are bit-identical since that was seen.
        unmoved_steps: training steps of this model since then.
        phase: the name a scheduler gave the present phase, None where no scheduler runs.
        phase_steps: steps taken in the phase, all of them where no scheduler runs.
        losses: `logs["loss"]` of the epochs of the phase so far.
        loss_function: the loss the model was compiled with.
        before: the phase or `fit` before, None where none was observed.
        ema_biases: how far statistics are behind, known at the end; None before.
        calls_observable: whether the guard can see how each BN is called in a step. It cannot
            in a custom training loop that it only sees through its optimizer.
        trained_elsewhere: paths of BN that another model may have updated in its own steps.
        inference: the first inference pass, None while none was observed.
        outside: what calls outside training changed; None where nothing was seen.
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
    assigned: Optional[AssignedWeights] = None
    unmoved: Tuple[str, ...] = ()
    unmoved_steps: int = 0
    phase: Optional[str] = None
    phase_steps: int = 0
    losses: Tuple[float, ...] = ()
    loss_function: str = ""
    before: Optional[PastRun] = None
    ema_biases: Optional[Tuple[EmaBias, ...]] = None
    calls_observable: bool = True
    trained_elsewhere: FrozenSet[str] = frozenset()
    inference: Optional[InferencePass] = None
    outside: Optional[OutsideChange] = None


@dataclass(frozen=True)
class Facts:
    """All facts that rules may use. A rule that needs a fact that is None ends as *skipped*.

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
