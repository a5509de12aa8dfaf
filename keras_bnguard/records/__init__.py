"""The nouns that travel between the stages; frozen, without any framework object inside.

Arrays are NumPy, float32 unless the layer stores another dtype, one value a channel.
A *path* is the names of a layer and the layers around it below the model in hand,
joined by ``/``: ``backbone/block1_bn``.
"""

from __future__ import annotations

from keras_bnguard.records.advice import Advice, PolicyScore
from keras_bnguard.records.data import (
    Alone,
    DataFacts,
    Gap,
    Labels,
    NormInput,
)
from keras_bnguard.records.model import (
    BlockFlags,
    Convolution,
    GraphCall,
    Inventory,
    LayerFlag,
    LostMask,
    NormLayer,
    SharedNorm,
    Surroundings,
    Switch,
    TimeSteps,
    WeightCounts,
)
from keras_bnguard.records.report import (
    SEVERITIES,
    DriftLook,
    Finding,
    Mode,
    Outcome,
    Report,
)
from keras_bnguard.records.stack import (
    STOCK,
    Behaviour,
    NormBehaviour,
    Stack,
)
from keras_bnguard.records.training import (
    NEEDS,
    Averaging,
    CallSite,
    Facts,
    FlagChange,
    Lag,
    Movement,
    NormState,
    OptimizerFacts,
    PastRun,
    RunFacts,
)

__all__ = [
    "NEEDS",
    "SEVERITIES",
    "STOCK",
    "Advice",
    "Alone",
    "Averaging",
    "Behaviour",
    "BlockFlags",
    "CallSite",
    "Convolution",
    "DataFacts",
    "DriftLook",
    "Facts",
    "Finding",
    "FlagChange",
    "Gap",
    "GraphCall",
    "Inventory",
    "Labels",
    "Lag",
    "LayerFlag",
    "LostMask",
    "Mode",
    "Movement",
    "NormBehaviour",
    "NormInput",
    "NormLayer",
    "NormState",
    "OptimizerFacts",
    "Outcome",
    "PastRun",
    "PolicyScore",
    "Report",
    "RunFacts",
    "SharedNorm",
    "Stack",
    "Surroundings",
    "Switch",
    "TimeSteps",
    "WeightCounts",
]
