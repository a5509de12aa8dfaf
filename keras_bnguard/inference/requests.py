"""Requests of `force_inference`: on one model, and on every other model that has its BN too."""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass, field
from typing import Any, Callable, List, MutableMapping, Optional

from keras_bnguard.backends.live_objects import living_models
from keras_bnguard.backends.patches.method_hooks import MethodHook, hook_method
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.errors import FaultBarrier
from keras_bnguard.inference.steps import renew_step
from keras_bnguard.model.forced_inference import ForcedInferenceState
from keras_bnguard.model.kept import find_kept, forget, kept_with
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.records import OnFailure
from keras_bnguard.selectors import Selectors


@dataclass
class _Open:
    """A request that is open.

    Attributes:
        model: a weak reference to the model that it was made for.
        on_failure: what happens where a BN does not run in inference mode.
        joined: weak references to the other models whose steps force its BN too.
    """

    model: Any
    on_failure: OnFailure
    joined: List[Any] = field(default_factory=list)


_OPEN: MutableMapping[Any, _Open] = weakref.WeakKeyDictionary()
"""By key, which the model of the request keeps: a model that is collected takes its own along."""

_HOOKS: List[MethodHook] = []
"""On the class from which models have `make_train_function`, while a request is open."""

_BARRIER = FaultBarrier(goes_on=True)


def open_request(
    key: Any, model: Any, layers: Optional[Selectors], on_failure: OnFailure = OnFailure.RAISE
) -> None:
    """Have the step of a model, and of every model that has these BN too, force them.

    Models that exist are searched now; one that is made later joins before its first step.

    Args:
        key: closes the request; an object that can be referenced weakly.
        model: the model.
        layers: a selector, None for those alone that should run in inference mode anyway.
        on_failure: what happens where a BN does not run in inference mode.
    """
    kept_with(model, ForcedInferenceState).add_request(key, layers, on_failure)
    _OPEN[key] = _Open(weakref.ref(model), on_failure)
    renew_request(key)


def renew_request(key: Any) -> None:
    """Have every step that belongs to a request decide again which BN to force."""
    opened = _OPEN[key]
    model = opened.model()
    backend = backend_for(model)
    if _forced_layers(model):
        for other in living_models(backend.keras):
            _join(key, opened, other)
    owner = _owner(backend.keras.Model, "make_train_function")
    hook = hook_method(owner, "make_train_function", _bind_join)
    if hook is not None:
        _HOOKS.append(hook)
    for each in (model, *(ref() for ref in opened.joined)):
        if each is not None:
            renew_step(each)


def close_request(key: Any) -> None:
    """Withdraw a request from its model and from all that joined; no-op where it is closed."""
    opened = _OPEN.pop(key, None)
    for ref in () if opened is None else (opened.model, *opened.joined):
        model = ref()
        state = None if model is None else find_kept(model, ForcedInferenceState)
        if state is not None and state.withdraw_request(key):
            if state.empty:
                forget(model, ForcedInferenceState)
            renew_step(model)
    while _HOOKS and not _OPEN:
        _HOOKS.pop().remove()


def joined_models(key: Any) -> List[Any]:
    """Return the living models besides its own whose steps force BN of an open request."""
    opened = _OPEN.get(key)
    found = [ref() for ref in opened.joined] if opened is not None else []
    return [model for model in found if model is not None]


def _forced_layers(model: Any) -> List[Any]:
    snapshot = take_snapshot(model)
    paths = set(ForcedInferenceState.of(model).step_paths(snapshot, strict=False))
    return [handle.layer for handle in snapshot.handles if handle.path in paths]


def _join(key: Any, opened: _Open, other: Any) -> bool:
    """Have another model force the BN that it shares with the one of a request; False: none."""
    model = opened.model()
    if model is None or other is model or any(ref() is other for ref in opened.joined):
        return False
    inside = {id(layer) for layer in backend_for(other).graph.all_layers(other)}
    common = [layer for layer in _forced_layers(model) if id(layer) in inside]
    if common:
        kept_with(other, ForcedInferenceState).add_shared(key, common, opened.on_failure)
        opened.joined.append(weakref.ref(other))
    return bool(common)


def _owner(cls: type, name: str) -> type:
    return next(each for each in cls.__mro__ if name in each.__dict__)


def _bind_join(hook: MethodHook, model: Any, method: Callable[..., Any]) -> Any:
    @functools.wraps(method)
    def make_train_function(*args: Any, **kwargs: Any) -> Any:
        joined = []
        with _BARRIER:
            joined = [key for key, opened in list(_OPEN.items()) if _join(key, opened, model)]
            if joined:
                renew_step(model)
        # Its class is hooked now: begin again there.
        return (model.make_train_function if joined else method)(*args, **kwargs)

    return make_train_function if _OPEN else method
