"""Which BN of a model this package forces into inference mode: in its step, or in a block."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from keras_bnguard.backends.patches.inference_mode import ForcedInference
from keras_bnguard.model.expected_mode import norms_to_force
from keras_bnguard.model.snapshot import ModelSnapshot, take_snapshot
from keras_bnguard.selectors import Selectors, select


@dataclass
class ForcedInStep:
    """What the training step of one model forces.

    requests: one entry per open `force_inference`: a key and its selector, None for those BN
    alone that should run in inference mode anyway.
    """

    requests: Dict[object, Optional[Selectors]] = field(default_factory=dict)
    signature: Optional[Tuple[bool, ...]] = None
    snapshot: Optional[ModelSnapshot] = None
    hold: Optional[ForcedInference] = None
    paths: Tuple[str, ...] = ()

    def selectors(self) -> List[Selectors]:
        return [selector for selector in self.requests.values() if selector is not None]


IN_STEP: weakref.WeakKeyDictionary[Any, ForcedInStep] = weakref.WeakKeyDictionary()
IN_BLOCK: weakref.WeakKeyDictionary[Any, List[Tuple[str, ...]]] = weakref.WeakKeyDictionary()


class ForcesInStep:
    """Marks a model class whose own `train_step` forces; `GuardedTrainStep` is one."""


def forces_in_step(model: Any) -> bool:
    """Whether the model's `train_step` forces BN, by `force_inference` or by the mixin."""
    return isinstance(model, ForcesInStep) or "_bng_step" in getattr(model, "__dict__", {})


def step_forced_inference(model: Any) -> ForcedInference:
    """The context manager a forcing step runs in; re-created when a flag has changed."""
    state = IN_STEP.get(model)
    if state is None:
        state = IN_STEP[model] = ForcedInStep()
    if state.snapshot is not None and state.hold is not None:
        flags = tuple(bool(layer.trainable) for _, layer in state.snapshot.layers)
        if flags == state.signature:
            return state.hold
    snapshot = take_snapshot(model)
    chosen = [path for each in state.selectors() for path in choose_norms(snapshot, each)]
    state.paths = tuple(dict.fromkeys((*norms_to_force(snapshot.inventory.norms, {}), *chosen)))
    state.snapshot = snapshot
    state.signature = tuple(bool(layer.trainable) for _, layer in snapshot.layers)
    state.hold = make_forced_inference(snapshot, state.paths, obey_graph=True, stop_leaks=True)
    return state.hold


def forced_in_step(model: Any) -> Tuple[str, ...]:
    """Paths of the BN a model's step forces as its flags are now; () where it forces none."""
    if not forces_in_step(model):
        return ()
    step_forced_inference(model)
    return IN_STEP[model].paths


def make_forced_inference(
    snapshot: ModelSnapshot, paths: Tuple[str, ...], *, obey_graph: bool, stop_leaks: bool
) -> ForcedInference:
    """A context manager that forces some BN of a model.

    Args:
        survey: the model and its live layers.
        paths: paths of BN to force.
        obey_graph: also make every `training=False` of a graph call count.
        stop_leaks: also keep such a False from reaching layers called later.
    """
    backend = snapshot.backend
    chosen = set(paths)
    layers: Dict[int, Any] = {}
    modules: List[Any] = []
    for handle in snapshot.handles:
        if handle.path not in chosen:
            continue
        if handle.module is not None:
            modules.append(handle.module)
        else:
            layers[id(handle.layer)] = handle.layer
    nodes = list(backend.step.rewritable_nodes(snapshot.model)) if obey_graph else []
    leaky: List[Any] = []
    if stop_leaks and _may_leak(snapshot):
        leaky = [snapshot.model, *(layer for _, layer in snapshot.layers)]
    return ForcedInference(backend, list(layers.values()), modules, nodes, leaky)


def _may_leak(snapshot: ModelSnapshot) -> bool:
    """Whether some layer's own `call` invokes several layers on a Keras that leaks there."""
    behaviour = snapshot.inventory.stack.behaviour
    backend = snapshot.backend
    if behaviour.false_leaks_in_graph and any(
        call.training is False for norm in snapshot.inventory.norms for call in norm.calls
    ):
        return True
    if not behaviour.false_leaks_in_call:
        return False
    return any(
        len(backend.graph.children(layer)) > 1 and not backend.graph.is_functional(layer)
        for layer in [snapshot.model, *(layer for _, layer in snapshot.layers)]
    )


def choose_norms(snapshot: ModelSnapshot, selector: Selectors) -> Tuple[str, ...]:
    """Paths of the BN that a selector names.

    Raises:
        SelectorError: it matches none; lists near misses.
    """
    pairs = [(handle.path, handle.layer) for handle in snapshot.handles]
    return select(selector, pairs, model=snapshot.inventory.model, what="BN")


def forced_paths(model: Any) -> Tuple[str, ...]:
    """Paths of every BN this package forces into inference mode now, by step or by block."""
    open_now = [path for paths in IN_BLOCK.get(model, []) for path in paths]
    return tuple(dict.fromkeys((*forced_in_step(model), *open_now)))
