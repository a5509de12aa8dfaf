"""Which phases can train on features that are computed once, and what forbids it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Optional, Sequence

from keras_bnguard.backends.parts.graph import is_random
from keras_bnguard.backends.signatures import OURS, package_of
from keras_bnguard.features.cut import Cut, cut_graph
from keras_bnguard.model.forced_inference import forces_in_step
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.phases.fields import BatchNormMode
from keras_bnguard.phases.plan import PlannedPhase
from keras_bnguard.records.ids import layer_id


@dataclass(frozen=True)
class Candidate:
    """What is known of a phase before its features are computed.

    Attributes:
        cut: where its trunk ends, None where it has none, or something forbids to cache.
        reason: what forbids it; empty where nothing does, or there is no frozen trunk.
    """

    cut: Optional[Cut] = None
    reason: str = ""


def find_candidate(snapshot: ModelSnapshot, planned: PlannedPhase) -> Candidate:
    """Find the frozen trunk of a phase, from the plan and the layers.

    Args:
        snapshot: the model.
        planned: the phase.
    """
    backend, model = snapshot.backend, snapshot.model
    if not backend.graph.nodes(model):
        return Candidate(reason=f"{model.name} is no functional or sequential model")
    reasons = _Reasons(snapshot, planned)
    by_flags = cut_graph(backend, model, reasons.trains_inside).weighted(backend)
    if not by_flags:
        return Candidate()
    cut = cut_graph(backend, model, reasons.stop)
    missing = set(by_flags) - set(cut.weighted(backend))
    if missing:
        return Candidate(reason=reasons.first or "its trunk lies in a call with written training=")
    for node, called in cut.rest:
        if backend.graph.is_layer(called) and backend.graph.node_training(node) is not None:
            return Candidate(reason=f"{called.name} is called with a written training=, and trains")
    return Candidate(cut)


class _Reasons:
    """Why layers cannot be part of a trunk."""

    def __init__(self, snapshot: ModelSnapshot, planned: PlannedPhase) -> None:
        self._snapshot, self._planned = snapshot, planned
        self._trains = set(planned.trains)
        self._training = set(planned.training)
        norms = {handle.path for handle in snapshot.handles}
        if planned.phase.batch_norm is BatchNormMode.TRAIN:
            self._trains -= norms  # What forbids it is their mode, not that they were chosen.
        self._obeyed = obeys_graph(snapshot, planned)
        self.first = ""

    def trains_inside(self, node: Any, called: Any) -> bool:
        """Whether a layer or one inside it trains."""
        return any(self._path(each) in self._trains for each in self._inside(called))

    def stop(self, node: Any, called: Any) -> bool:
        """Whether a layer or one inside it trains, or forbids to compute it once."""
        graph = self._snapshot.backend.graph
        off = self._obeyed and graph.is_layer(called) and graph.node_training(node) is False
        stops = False
        for each in self._inside(called):
            trains = self._path(each) in self._trains
            reason = "" if trains or off else self._forbids(each)
            self.first = self.first or reason
            stops = stops or trains or bool(reason)
        return stops

    def _inside(self, called: Any) -> Sequence[Any]:
        graph = self._snapshot.backend.graph
        return graph.all_layers(called)[::-1] if graph.is_layer(called) else ()

    def _path(self, layer: Any) -> str:
        return str(self._snapshot.paths.get(layer_id(layer), layer.name))

    def _forbids(self, layer: Any) -> str:
        backend, path = self._snapshot.backend, self._path(layer)
        if path in self._training:
            return f"{path} is a BN in training mode"
        if is_random(backend.graph, layer) or (
            not backend.graph.children(layer) and backend.values.random_variables(layer)
        ):
            return f"{path} ({type(layer).__name__}) draws random numbers in training"
        if getattr(layer, "activity_regularizer", None) is not None:
            return f"{path} has an activity regularizer, which is part of the loss"
        return ""


def obeys_graph(snapshot: ModelSnapshot, planned: PlannedPhase) -> bool:
    """Whether `training=False` that a graph has written counts in the steps of a phase."""
    behaviour = snapshot.inventory.stack.behaviour
    return bool(behaviour.graph_false_honoured or forces(snapshot, planned))


def forces(snapshot: ModelSnapshot, planned: PlannedPhase) -> bool:
    """Whether the steps of a phase force BN into inference mode."""
    return bool(planned.forced) or forces_in_step(snapshot.model)


def what_forbids(snapshot: ModelSnapshot) -> str:
    """What forbids to cache in any phase, of the model and its optimizer.

    Args:
        snapshot: a compiled model.

    Returns:
        The reason, "" where nothing forbids it.
    """
    model, backend = snapshot.model, snapshot.backend
    package = backend.graph.package
    own: Callable[[str], bool] = lambda name: any(  # noqa: E731
        name in cls.__dict__
        and getattr(cls.__dict__[name], "replaces_own", True)
        and package_of(cls) not in (OURS, package)
        for cls in type(model).__mro__
    )
    for name in ("call", "train_step", "test_step", "compute_loss", "make_train_function"):
        if own(name):
            return f"{type(model).__name__} has a {name} of its own, which may use its inputs"
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if getattr(optimizer, "use_ema", False):
        return "the optimizer averages weights (use_ema), and applies that when fit ends"
    if backend.step.replicas(model) > 1:
        return "the model trains on several replicas"
    return ""
