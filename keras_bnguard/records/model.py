"""What a model is before its first step: every BN, its flags, its calls in graphs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional, Tuple

from keras_bnguard.records.stack import BUILTIN, NormBehaviour, Stack


@dataclass(frozen=True)
class GraphCall:
    """One call of a BN in a functional graph.

    training: the value written at the call or at a call around it, None where none is.
    owner: path of the layer whose call carries that value.
    order: position in execution order, for comparisons inside one inventory.
    source: "file.py:41" of the call that carries the value, where known.
    """

    training: Optional[bool]
    owner: str
    order: int
    source: Optional[str] = None


@dataclass(frozen=True)
class Convolution:
    """The convolution that feeds a BN through layers that leave the axes in place.

    channel_axis: counted from 0 with the batch axis. dims: how many axes its output has.
    """

    path: str
    channel_axis: int
    dims: int


@dataclass(frozen=True)
class LostMask:
    """A mask that a layer before a BN makes and another one does not hand on."""

    made_by: str
    dropped_by: str


@dataclass(frozen=True)
class TimeSteps:
    """A TimeDistributed layer around a BN. steps: its time steps, None where they vary;
    graph: what it holds is a functional or sequential model."""

    path: str
    steps: Optional[int]
    graph: bool


@dataclass(frozen=True)
class GraphContext:
    """What lies around a BN in the graphs that call it.

    axis: the one it normalises along, None where it is not one; negative counts from the end.
    call_sites: how often one call of the model calls it. positions: of the map it sees, where it
    has four axes and Keras 2 wrote the model's file.
    """

    axis: Optional[int] = None
    convolution: Optional[Convolution] = None
    lost_mask: Optional[LostMask] = None
    time_steps: Optional[TimeSteps] = None
    call_sites: int = 1
    positions: Optional[int] = None


class NormKind(Enum):
    """What keeps the moving statistics, and so what can be read and set."""

    KERAS = "keras"  # a Keras layer with a flag of its own
    TORCH = "torch"  # a module inside a TorchModuleWrapper
    VARIABLES = "variables"  # only variables can be read, as in TFSMLayer and FlaxLayer


@dataclass(frozen=True)
class NormLayer:
    """One BatchNormalization layer, or something that keeps moving statistics like one.

    kind: a Keras layer, a torch module, or variables without a layer.
    container: path of the sub-model or layer that holds it ("" is the model itself).
    trainable: its own flag; frozen_ancestors: paths whose flag is False on every way to it.
    compiled_trainable: its flag when the model was compiled, None where unknown.
    channels: values per vector, 0 while unbuilt. at_default: mean all 0 and variance all 1.
    behaviour: measured for subclasses and old classes, `BUILTIN` for Keras's own layer,
        None where it could not be measured.
    forced_inference: a hold of this package forces it into inference mode in this run.
    aliases: the other paths of a layer that is reachable more than once.
    flag_source: "file.py:41" where its flag, or that of a frozen layer around it, was last set.
    """

    path: str
    class_name: str
    kind: NormKind = NormKind.KERAS
    container: str = ""
    position: int = 0
    trainable: bool = True
    frozen_ancestors: Tuple[str, ...] = ()
    compiled_trainable: Optional[bool] = None
    momentum: Optional[float] = None
    epsilon: Optional[float] = None
    channels: int = 0
    built: bool = True
    at_default: Optional[bool] = None
    stats_dtype: Optional[str] = None
    renorm: bool = False
    synchronized: bool = False
    builtin: bool = True
    behaviour: Optional[NormBehaviour] = BUILTIN
    calls: Tuple[GraphCall, ...] = ()
    forced_inference: bool = False
    aliases: Tuple[str, ...] = ()
    host: str = ""
    flag_source: Optional[str] = None
    graph_context: GraphContext = GraphContext()

    @property
    def frozen(self) -> bool:
        """Its own flag or one above it says frozen."""
        return not self.trainable or bool(self.frozen_ancestors)


@dataclass(frozen=True)
class LayerFlag:
    """A layer's `trainable` now and at `compile()` (None: not known there).

    weighted: it owns weights itself, not only through layers inside it.
    """

    path: str
    class_name: str
    container: str
    position: int
    trainable: bool
    compiled: Optional[bool]
    weighted: bool
    is_norm: bool


@dataclass(frozen=True)
class TrainingDefault:
    """A layer whose `call` has `training=True` as its default (RandomFlip and its like)."""

    path: str
    class_name: str
    order: int


@dataclass(frozen=True)
class SharedNorm:
    """A BN that another compiled model holds too, with the flag it was compiled with there."""

    path: str
    other: str
    here: bool
    there: bool
    other_contains_model: bool


@dataclass(frozen=True)
class BlockFlags:
    """A residual block, or another piece of a graph that belongs together, and its flags.

    trains, frozen: paths of its layers that own weights and are no BN.
    """

    name: str
    trains: Tuple[str, ...]
    frozen: Tuple[str, ...]


@dataclass(frozen=True)
class WeightCounts:
    """Values that train in `fit` as flags are, of those that could; the same for gamma and beta.

    Moving statistics are in none of them: no gradient reaches them.
    """

    trainable: int
    total: int
    norm_trainable: int
    norm_total: int


@dataclass(frozen=True)
class Inventory:
    """Everything rules need to know about a model before its first step.

    functional: the whole model is a functional or sequential graph, so that graph calls
    and their order are complete. compiled_flags_known: `LayerFlag.compiled` is filled.
    step_built: a train function exists, so that flags may be baked into it.
    shared: None where nobody looked for other models (it costs a walk over all objects).
    replicas: copies of the model that train side by side, each on its share of a batch.
    steps_per_execution: batches per call of the compiled step.
    blocks: None where nobody looked for them.
    saved_by: the Keras that wrote its file, "keras 2.15.0"; None where that is not known.
    """

    model: str
    stack: Stack
    norms: Tuple[NormLayer, ...]
    layers: Tuple[LayerFlag, ...]
    training_defaults: Tuple[TrainingDefault, ...] = ()
    functional: bool = True
    compiled: bool = True
    built: bool = True
    compiled_flags_known: bool = True
    step_built: bool = False
    guarded: bool = False
    shared: Optional[Tuple[SharedNorm, ...]] = None
    unreadable: Tuple[str, ...] = ()
    replicas: int = 1
    steps_per_execution: int = 1
    blocks: Optional[Tuple[BlockFlags, ...]] = None
    saved_by: Optional[str] = None
    weights: Optional[WeightCounts] = None

    def norm(self, path: str) -> NormLayer:
        """The BN at `path`; KeyError where there is none."""
        for item in self.norms:
            if item.path == path:
                return item
        raise KeyError(path)
