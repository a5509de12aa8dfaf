"""The nouns that travel between the stages; frozen, without any framework object inside.

Arrays are NumPy, float32 unless the layer stores another dtype, one value a channel.
A *path* is the names of a layer and the layers around it below the model in hand,
joined by ``/``: ``backbone/block1_bn``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple

import numpy as np

SEVERITIES = ("error", "warning", "info")
NEEDS = {
    "A": "the model and its compile state at train begin",
    "O": "the optimizer",
    "R": "what happened between two looks while training ran",
    "P": "batches of your data: BNGuard(data=...)",
    "H": "the hyper-parameters of fit (epochs, steps, batch size)",
}


@dataclass(frozen=True)
class Behaviour:
    """What the running Keras does with `training` and `trainable`, as its self-test found.

    graph_false_honoured: `layer(x, training=False)` in a functional graph holds in `fit`.
    graph_true_at_inference: `layer(x, training=True)` in a functional graph holds in `predict`.
    false_leaks_in_graph: that False also reaches later layers of the functional graph.
    false_leaks_in_call: an explicit False in a subclassed `call` reaches layers called after it.
    default_leaks: a layer whose `call` defaults to `training=True` switches layers after it.
    setter_skips_equal: setting a container's `trainable` to the value it has does not reach
        its children.
    """

    graph_false_honoured: bool
    graph_true_at_inference: bool
    false_leaks_in_graph: bool
    false_leaks_in_call: bool
    default_leaks: bool
    setter_skips_equal: bool


@dataclass(frozen=True)
class Stack:
    """The Keras a model belongs to: `package` and `version`, and the `engine` that computes.

    flags: what makes a changed `trainable` count: "compile" (the flags at `compile()` run),
    "trace" (those at the first step run), "positional" (a change makes the step raise or
    mixes weights up) or "live" (a change counts at once).
    """

    name: str
    package: str
    version: str
    engine: str
    flags: str
    behaviour: Behaviour

    def __str__(self) -> str:
        return f"{self.package} {self.version} on {self.engine}"


@dataclass(frozen=True)
class NormBehaviour:
    """What one BN class did when a fresh layer of it was called on two small batches.

    live_updates: trainable, `training=True`: moving statistics changed.
    frozen_updates: not trainable, `training=True`: moving statistics changed.
    frozen_uses_batch: not trainable, `training=True`: output differs from inference mode's.
    """

    live_updates: bool
    frozen_updates: bool
    frozen_uses_batch: bool


STOCK = NormBehaviour(live_updates=True, frozen_updates=False, frozen_uses_batch=False)


@dataclass(frozen=True)
class GraphCall:
    """One call of a BN in a functional graph.

    training: the value written at the call or at a call around it, None where none is.
    owner: path of the layer whose call carries that value.
    order: position in execution order, for comparisons inside one inventory.
    """

    training: Optional[bool]
    owner: str
    order: int


@dataclass(frozen=True)
class NormLayer:
    """One BatchNormalization layer, or something that keeps moving statistics like one.

    kind: "keras", "torch" (a module inside TorchModuleWrapper), "variables" (only its
        variables can be seen, as in TFSMLayer or FlaxLayer).
    container: path of the sub-model or layer that holds it ("" is the model itself).
    trainable: its own flag; frozen_ancestors: paths whose flag is False on every way to it.
    compiled_trainable: its flag when the model was compiled, None where unknown.
    channels: values per vector, 0 while unbuilt. at_default: mean all 0 and variance all 1.
    behaviour: measured for subclasses and old classes, `STOCK` for Keras's own layer,
        None where it could not be measured.
    held: a hold of this package forces it into inference mode in this run.
    aliases: the other paths of a layer that is reachable more than once.
    """

    path: str
    class_name: str
    kind: str = "keras"
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
    stock: bool = True
    behaviour: Optional[NormBehaviour] = STOCK
    calls: Tuple[GraphCall, ...] = ()
    held: bool = False
    aliases: Tuple[str, ...] = ()
    host: str = ""

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
class Switch:
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
class Inventory:
    """Everything rules need to know about a model before its first step.

    functional: the whole model is a functional or sequential graph, so that graph calls
    and their order are complete. compiled_flags_known: `LayerFlag.compiled` is filled.
    step_built: a train function exists, so that flags may be baked into it.
    shared: None where nobody looked for other models (it costs a walk over all objects).
    """

    model: str
    stack: Stack
    norms: Tuple[NormLayer, ...]
    layers: Tuple[LayerFlag, ...]
    switches: Tuple[Switch, ...] = ()
    functional: bool = True
    compiled: bool = True
    built: bool = True
    compiled_flags_known: bool = True
    step_built: bool = False
    guarded: bool = False
    shared: Optional[Tuple[SharedNorm, ...]] = None
    unreadable: Tuple[str, ...] = ()

    def norm(self, path: str) -> NormLayer:
        """The BN at `path`; KeyError where there is none."""
        for item in self.norms:
            if item.path == path:
                return item
        raise KeyError(path)


@dataclass(frozen=True)
class OptimizerFacts:
    """class_name; built: it has made its slots; iterations: steps taken so far;
    unknown: trainable variables of the model that it has no slots for;
    stale: variables it has slots for that no longer train."""

    class_name: str
    built: bool
    iterations: int = 0
    unknown: Tuple[str, ...] = ()
    stale: Tuple[str, ...] = ()


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
    flag: the layer's own `trainable` at that moment, as the engine saw it.
    around: the `training` value in force around the call, which Keras should hand on.
    """

    explicit: Any
    arrived: Any
    leaked_from: Optional[str] = None
    switched_by: Optional[str] = None
    values_per_channel: Optional[int] = None
    flag: bool = True
    around: Any = None


@dataclass(frozen=True)
class FlagChange:
    """A layer's flag that differs from the one its compiled step was built with.

    outcome: what this engine does with it: "ignored", "live", "raises" or "corrupts".
    where: "before fit" or the moment inside it; source: "file.py:41" where known;
    compiled_at: the line of the last `compile()`, where known.
    """

    path: str
    compiled: bool
    now: bool
    outcome: str
    where: str = "before fit"
    source: Optional[str] = None
    is_norm: bool = False
    excused_by: Optional[str] = None
    compiled_at: Optional[str] = None


@dataclass(frozen=True)
class Movement:
    """What happened to one BN between train begin and this look, bit for bit.

    moved: mean or variance differ in at least one bit (NaN counts as moved).
    moved_since_last: the same, against the previous look. affine_moved: gamma or beta
    differ (None: not read). mean_shift: mean over channels of |mean_t - mean_0| /
    sqrt(variance_0 + epsilon). log_variance_ratio: mean over channels of
    |log((variance_t + epsilon) / (variance_0 + epsilon))|.
    expected: "train" or "inference", from intent; why: the fact that decided it.
    ran: "training", "inference" or "unknown", from the calls of a real step.
    """

    path: str
    expected: str
    why: str
    moved: bool
    moved_since_last: bool
    ran: str = "unknown"
    affine_moved: Optional[bool] = None
    mean_shift: float = 0.0
    log_variance_ratio: float = 0.0
    max_mean_shift: float = 0.0
    started_at_default: bool = False
    nonfinite: Tuple[str, ...] = ()
    negative_channels: int = 0
    dead_channels: int = 0
    min_variance: float = 1.0
    median_variance: float = 1.0


@dataclass(frozen=True)
class RunFacts:
    """What is known once training runs. steps: training steps since train begin.

    called: a real step was observed, so `calls` is complete for it.
    recompiled: `compile()` ran inside `fit` and left no train function.
    optimizer_started: the optimizer's iteration count at train begin.
    """

    moment: str = "train begin"
    epoch: Optional[int] = None
    steps: int = 0
    flips: Tuple[FlagChange, ...] = ()
    movements: Tuple[Movement, ...] = ()
    calls: Mapping[str, Tuple[CallSite, ...]] = field(default_factory=dict)
    called: bool = False
    recompiled: Optional[str] = None
    optimizer_started: int = 0


@dataclass(frozen=True)
class Facts:
    """All that rules may look at; a part that is None makes rules that need it *skipped*."""

    inventory: Optional[Inventory] = None
    optimizer: Optional[OptimizerFacts] = None
    run: Optional[RunFacts] = None
    batches: Optional[Any] = None
    hyper: Optional[Mapping[str, Any]] = None

    def has(self, need: str) -> bool:
        """Whether the part a rule calls "A", "O", "R", "P" or "H" is there."""
        part = {
            "A": self.inventory,
            "O": self.optimizer,
            "R": self.run,
            "P": self.batches,
            "H": self.hyper,
        }[need]
        return part is not None


@dataclass(frozen=True)
class Finding:
    """One fault: which layers, the numbers, what this stack does about it, and what to type.

    repaired: what `fix=True` did about it, None where nothing was changed.
    moment: when it was found. source: "file.py:41" of the user's code where known.
    """

    code: str
    name: str
    severity: str
    layers: Tuple[str, ...]
    message: str
    fix: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    moment: str = "train begin"
    source: Optional[str] = None
    repaired: Optional[str] = None

    def __str__(self) -> str:
        return f"{self.code} {self.name}: {self.message}"


@dataclass(frozen=True)
class Outcome:
    """How a rule ended: "fired", "clear", "muted" or "skipped", with the reason for the last."""

    code: str
    status: str
    reason: str = ""


@dataclass(frozen=True)
class Mode:
    """One row of the mode table: what a BN is meant to do, why, and what it will do here.

    `will` is "training" or "inference"; `agrees` says whether that is what was meant.
    """

    path: str
    trainable: bool
    frozen: bool
    meant: str
    why: str
    will: str
    agrees: bool
    momentum: Optional[float]
    at_default: Optional[bool]
    held: bool = False


@dataclass(frozen=True)
class DriftLook:
    """Drift of every BN at one look: `mean_shift` and `log_variance_ratio` by path."""

    moment: str
    epoch: Optional[int]
    steps: int
    mean_shift: Mapping[str, float]
    log_variance_ratio: Mapping[str, float]

    @property
    def total(self) -> float:
        """The largest mean shift of any BN at this look, in standard deviations; 0.0 without BN."""
        return max(self.mean_shift.values(), default=0.0)


@dataclass(frozen=True)
class Report:
    """What an audit or a guarded run knows at its end."""

    model: str
    stack: Optional[Stack]
    findings: Tuple[Finding, ...] = ()
    outcomes: Tuple[Outcome, ...] = ()
    modes: Tuple[Mode, ...] = ()
    drift: Tuple[DriftLook, ...] = ()
    repairs: Tuple[str, ...] = ()
    notes: Tuple[str, ...] = ()
    steps: int = 0

    @property
    def skipped(self) -> Tuple[Outcome, ...]:
        """The rules that could not look, each with what it needs."""
        return tuple(o for o in self.outcomes if o.status == "skipped")

    @property
    def codes(self) -> Tuple[str, ...]:
        """The codes of the findings, in order, without repeats."""
        return tuple(dict.fromkeys(f.code for f in self.findings))

    def __str__(self) -> str:
        from keras_bnguard.report.text import render

        return render(self)
