"""What a model is before its first step: every BN, its flags, its calls in graphs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Optional, Tuple

from keras_bnguard.records.enums import TextEnum
from keras_bnguard.records.graph import NO_CONTEXT, GraphCall, GraphContext
from keras_bnguard.records.modes import Verification
from keras_bnguard.records.stack import BUILTIN, NormBehaviour, Stack
from keras_bnguard.records.user_code import UserCode


class Provenance(TextEnum):
    """Where the statistics of a BN come from, for the model in hand.

    DEFAULT: mean 0 and variance 1.
    LOADED: a file, an assignment, or a pretraining in this process that has ended.
    TRAINED_HERE: training of this model in this process, from the default on.
    UNKNOWN: they changed where nothing was observed.
    """

    DEFAULT = "default"
    LOADED = "loaded"
    TRAINED_HERE = "trained here"
    UNKNOWN = "unknown"


class NormKind(Enum):
    """What keeps the moving statistics, and so what can be read and set."""

    KERAS = "keras"  # a Keras layer with a flag of its own
    TORCH = "torch"  # a module inside a TorchModuleWrapper
    VARIABLES = "variables"  # only variables can be read, as in TFSMLayer and FlaxLayer


@dataclass(frozen=True)
class NormLayer:
    """One BatchNormalization layer, or something that keeps moving statistics like one.

    Attributes:
        path: path of the layer below the model.
        class_name: name of its class.
        kind: a Keras layer, a torch module, or variables without a layer.
        container: path of the sub-model or layer that contains it, "" for the model itself.
        position: place among all layers of the model.
        trainable: its own flag.
        frozen_ancestors: paths of layers whose flag is False on every way to it.
        compiled_trainable: its flag when the model was compiled, None where unknown.
        momentum: its momentum, None where it has none.
        epsilon: its epsilon, None where it has none.
        channels: values per vector, 0 while it is not built.
        built: whether it has its variables.
        at_default: whether the moving mean is 0 and the moving variance is 1 in every channel;
            None where that is unknown.
        stats_dtype: dtype of the moving statistics, None where unknown.
        renorm: whether it uses batch renormalization.
        synchronized: whether replicas share batch statistics.
        builtin: whether it is Keras's own class.
        behaviour: what its class did in the self-test: `BUILTIN` for Keras's own class, None
            where it could not be measured.
        calls: its calls in functional graphs.
        forced_inference: whether this package forces it into inference mode in this run.
        aliases: the other paths of a layer that is reachable more than once.
        wrapper: class of the layer in which it is hidden, "" where it is an ordinary layer.
        flag_source: "file.py:41" where its flag, or that of a frozen layer around it, was last
            set; None where unknown.
        graph_context: what surrounds it in the graphs that call it.
        verification: what is known of its forced inference; None where it is not known.
        affine_varies: whether gamma or beta differs between channels, as only training or
            loading makes them; None where unknown.
        provenance: where its statistics come from; None where nobody kept track of them.
        access: code that follows the model to reach it, `.get_layer("base").layer`; None where
            no public name leads to it.
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
    wrapper: str = ""
    flag_source: Optional[str] = None
    graph_context: GraphContext = NO_CONTEXT
    verification: Optional[Verification] = None
    affine_varies: Optional[bool] = None
    provenance: Optional[Provenance] = None
    access: Optional[str] = None

    @property
    def pretrained(self) -> bool:
        """Whether its statistics are those of a pretraining, as far as that is known."""
        if self.provenance is None:
            return self.at_default is False
        return self.provenance is Provenance.LOADED

    @property
    def frozen(self) -> bool:
        """Its own flag or one above it is False."""
        return not self.trainable or bool(self.frozen_ancestors)


@dataclass(frozen=True)
class LayerFlag:
    """The `trainable` flag of a layer, now and at `compile()`.

    Attributes:
        path: path of the layer.
        class_name: name of its class.
        container: path of the sub-model or layer that contains it, "" for the model itself.
        position: place among all layers of the model.
        trainable: its flag now.
        compiled: its flag at `compile()`, None where that is unknown.
        weighted: whether it has weights of its own, not only through layers inside it.
        is_norm: whether it is a BN.
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
    """A layer whose `call` has `training=True` as its default, such as RandomFlip.

    Attributes:
        path: path of the layer.
        class_name: name of its class.
        order: position in execution order, for comparisons inside one inventory.
    """

    path: str
    class_name: str
    order: int


@dataclass(frozen=True)
class SharedNorm:
    """A BN that another compiled model has too.

    Attributes:
        path: path of the BN in this model.
        other: name of the other model.
        here: its flag when this model was compiled.
        there: its flag when the other model was compiled.
        other_contains_model: whether the other model contains this one.
    """

    path: str
    other: str
    here: bool
    there: bool
    other_contains_model: bool


@dataclass(frozen=True)
class BlockFlags:
    """The flags of a residual block, or of another part of a graph that belongs together.

    Attributes:
        name: name of the block.
        trains: paths of its trainable layers that have weights and are no BN.
        frozen: paths of its frozen layers that have weights and are no BN.
    """

    name: str
    trains: Tuple[str, ...]
    frozen: Tuple[str, ...]


@dataclass(frozen=True)
class WeightCounts:
    """How many values train in `fit` as the flags are.

    Moving statistics are in none of the numbers: no gradient reaches them.

    Attributes:
        trainable: values that train.
        total: values that could train.
        norm_trainable: values of gamma and beta of BN that train.
        norm_total: values of gamma and beta of BN.
    """

    trainable: int
    total: int
    norm_trainable: int
    norm_total: int


@dataclass(frozen=True)
class Inventory:
    """Everything rules need to know about a model before its first step.

    Attributes:
        model: name of the model.
        stack: the Keras and the backend it belongs to.
        norms: every BN, in the order of the model.
        layers: the flag of every layer.
        training_defaults: layers whose `call` defaults to `training=True`.
        functional: whether the whole model is a functional or sequential graph, so that graph
            calls and their order are complete.
        compiled: whether `compile()` was called.
        built: whether the model has its variables.
        compiled_flags_known: whether `LayerFlag.compiled` is known.
        step_built: whether a train function exists, which may hold older flags.
        guarded: whether its training step forces inference mode.
        shared: BN that other compiled models have too; None where they were not searched,
            since that walks over all objects of the process.
        unreadable: paths of layers that could not be read.
        replicas: copies of the model that train side by side, each on its share of a batch.
        steps_per_execution: batches per call of the compiled step.
        blocks: flags by block; None where blocks were not searched.
        saved_by: the Keras that wrote its file, "keras 2.15.0"; None where unknown.
        call_without_training: (class of the model, code of its `call` with the argument added),
            where Keras's own step calls a `call` that takes no `training`; None elsewhere.
        weights: how many values train; None where unknown.
        user_code: names and arguments in the user's own code, for fixes that can be pasted.
        stateful: paths of recurrent layers that keep their state from batch to batch.
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
    call_without_training: Optional[Tuple[str, str]] = None
    weights: Optional[WeightCounts] = None
    user_code: UserCode = field(default_factory=UserCode)
    stateful: Tuple[str, ...] = ()

    def norm(self, path: str) -> NormLayer:
        """The BN at `path`; KeyError where there is none."""
        for item in self.norms:
            if item.path == path:
                return item
        raise KeyError(path)
