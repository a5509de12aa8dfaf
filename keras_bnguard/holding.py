"""Which BN of a model this package holds in inference mode: by its step, or by a context."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from keras_bnguard.engines.holds import Hold
from keras_bnguard.intent import to_hold
from keras_bnguard.inventory import Survey, take_inventory
from keras_bnguard.selectors import Selectors, select


@dataclass
class Guarded:
    """What is known of a guarded model. wanted: the user's `hold=` selector."""

    wanted: Optional[Selectors]
    signature: Optional[Tuple[bool, ...]] = None
    survey: Optional[Survey] = None
    hold: Optional[Hold] = None
    paths: Tuple[str, ...] = ()


GUARDED: weakref.WeakKeyDictionary[Any, Guarded] = weakref.WeakKeyDictionary()


class HoldsInStep:
    """Marks a model class whose own `train_step` holds; `GuardedTrainStep` is one."""


def is_guarded(model: Any) -> bool:
    """Whether the model's `train_step` holds BN, by `guard` or by the mixin."""
    return isinstance(model, HoldsInStep) or "_bng_step" in getattr(model, "__dict__", {})


def step_hold(model: Any) -> Hold:
    """The context manager a guarded step runs in; made anew when a flag has changed."""
    state = GUARDED.get(model)
    if state is None:
        state = GUARDED[model] = Guarded(wanted=None)
    if state.survey is not None and state.hold is not None:
        flags = tuple(bool(layer.trainable) for _, layer in state.survey.layers)
        if flags == state.signature:
            return state.hold
    survey = take_inventory(model)
    wanted = choose_norms(survey, state.wanted) if state.wanted is not None else ()
    state.paths = tuple(dict.fromkeys((*to_hold(survey.inventory.norms, {}), *wanted)))
    state.survey = survey
    state.signature = tuple(bool(layer.trainable) for _, layer in survey.layers)
    state.hold = make_hold(survey, state.paths, obey_graph=True, stop_leaks=True)
    return state.hold


def held_paths(model: Any) -> Tuple[str, ...]:
    """Paths of the BN a guarded model's step holds as its flags are now; () if unguarded."""
    if not is_guarded(model):
        return ()
    step_hold(model)
    return GUARDED[model].paths


def make_hold(
    survey: Survey, paths: Tuple[str, ...], *, obey_graph: bool, stop_leaks: bool
) -> Hold:
    """A hold for some BN of a surveyed model.

    Args:
        survey: the model's inventory with its handles.
        paths: paths of BN to hold.
        obey_graph: also make every `training=False` of a graph call count.
        stop_leaks: also keep such a False from reaching layers called later.
    """
    engine = survey.engine
    chosen = set(paths)
    layers: Dict[int, Any] = {}
    modules: List[Any] = []
    for handle in survey.handles:
        if handle.path not in chosen:
            continue
        if handle.module is not None:
            modules.append(handle.module)
        else:
            layers[id(handle.layer)] = handle.layer
    nodes = list(engine.rewritable_nodes(survey.model)) if obey_graph else []
    leaky: List[Any] = []
    if stop_leaks and _may_leak(survey):
        leaky = [survey.model, *(layer for _, layer in survey.layers)]
    return Hold(engine, list(layers.values()), modules, nodes, leaky)


def _may_leak(survey: Survey) -> bool:
    """Whether some layer's own `call` invokes several layers on a Keras that leaks there."""
    behaviour = survey.inventory.stack.behaviour
    engine = survey.engine
    if behaviour.false_leaks_in_graph and any(
        call.training is False for norm in survey.inventory.norms for call in norm.calls
    ):
        return True
    if not behaviour.false_leaks_in_call:
        return False
    return any(
        len(engine.children(layer)) > 1 and not engine.is_functional(layer)
        for layer in [survey.model, *(layer for _, layer in survey.layers)]
    )


def choose_norms(survey: Survey, selector: Selectors) -> Tuple[str, ...]:
    pairs = [(handle.path, handle.layer) for handle in survey.handles]
    return select(selector, pairs, model=survey.inventory.model, what="BN")


HELD: weakref.WeakKeyDictionary[Any, List[Tuple[str, ...]]] = weakref.WeakKeyDictionary()


def all_held(model: Any) -> Tuple[str, ...]:
    """Paths of every BN this package forces into inference now, by step or by context."""
    open_now = [path for paths in HELD.get(model, []) for path in paths]
    return tuple(dict.fromkeys((*held_paths(model), *open_now)))
