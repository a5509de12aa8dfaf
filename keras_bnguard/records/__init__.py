"""The nouns that travel between the stages; frozen, without any framework object inside.

Arrays are NumPy, float32 unless the layer stores another dtype, one value a channel.
A *path* is the names of a layer and the layers around it below the model in hand,
joined by ``/``: ``backbone/block1_bn``.
"""

from __future__ import annotations

from keras_bnguard.records.advice import Advice, Policy, PolicyScore
from keras_bnguard.records.data import (
    BatchDependence,
    DataFacts,
    DataPart,
    Gap,
    Labels,
    NormInput,
)
from keras_bnguard.records.facts import FACT_DESCRIPTIONS, Facts, RunFacts
from keras_bnguard.records.graph import (
    Convolution,
    GraphCall,
    GraphContext,
    LostMask,
    TimeSteps,
)
from keras_bnguard.records.model import (
    BlockFlags,
    Inventory,
    LayerFlag,
    NormKind,
    NormLayer,
    Provenance,
    SharedNorm,
    TrainingDefault,
    WeightCounts,
)
from keras_bnguard.records.modes import ExpectedMode, OnFailure, RunMode, Verification
from keras_bnguard.records.moments import (
    AUDIT,
    BEFORE_FIT,
    TRAIN_START,
    Moment,
    MomentKind,
    Trigger,
)
from keras_bnguard.records.outside_training import InferencePass, OutsideChange, WrittenTrue
from keras_bnguard.records.report import (
    SEVERITIES,
    DriftSnapshot,
    Finding,
    Mode,
    Outcome,
    OutcomeStatus,
    Severity,
    SkipKind,
    SkipReason,
)
from keras_bnguard.records.stack import (
    BUILTIN,
    Behaviour,
    FlagTiming,
    NormBehaviour,
    ReplicaStatistics,
    Stack,
)
from keras_bnguard.records.training import (
    AssignedWeights,
    Averaging,
    CallSite,
    ChangeOutcome,
    EmaBias,
    NormState,
    OptimizerFacts,
    PastRun,
    StatisticsChange,
    TrainableChange,
)
from keras_bnguard.records.user_code import UserCode

__all__ = [
    "AUDIT",
    "BEFORE_FIT",
    "BUILTIN",
    "FACT_DESCRIPTIONS",
    "SEVERITIES",
    "TRAIN_START",
    "Advice",
    "AssignedWeights",
    "Averaging",
    "BatchDependence",
    "Behaviour",
    "BlockFlags",
    "CallSite",
    "ChangeOutcome",
    "Convolution",
    "DataFacts",
    "DataPart",
    "DriftSnapshot",
    "EmaBias",
    "ExpectedMode",
    "Facts",
    "Finding",
    "FlagTiming",
    "Gap",
    "GraphCall",
    "GraphContext",
    "InferencePass",
    "Inventory",
    "Labels",
    "LayerFlag",
    "LostMask",
    "Mode",
    "Moment",
    "MomentKind",
    "NormBehaviour",
    "NormInput",
    "NormKind",
    "NormLayer",
    "NormState",
    "OnFailure",
    "OptimizerFacts",
    "Outcome",
    "OutcomeStatus",
    "OutsideChange",
    "PastRun",
    "Policy",
    "PolicyScore",
    "Provenance",
    "ReplicaStatistics",
    "RunFacts",
    "RunMode",
    "Severity",
    "SharedNorm",
    "SkipKind",
    "SkipReason",
    "Stack",
    "StatisticsChange",
    "TimeSteps",
    "TrainableChange",
    "TrainingDefault",
    "Trigger",
    "UserCode",
    "Verification",
    "WeightCounts",
    "WrittenTrue",
]
