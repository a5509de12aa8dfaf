"""Models that are alive in this process, found by a walk through all objects."""

from __future__ import annotations

import gc
import weakref
from typing import Any, List, Optional, Sequence, Tuple


def living_models(keras: Any) -> List[Any]:
    """Return every model of a Keras that is alive.

    A walk through all objects takes milliseconds to tenths of a second: not for a batch hook.

    Args:
        keras: the Keras module.
    """
    return [thing for thing in gc.get_objects() if _is_instance(thing, keras.Model)]


def _is_instance(thing: Any, cls: type) -> bool:
    # `isinstance` alone asks a proxy for the class of an object that may be gone.
    try:
        return issubclass(type(thing), cls) and not isinstance(thing, weakref.ProxyTypes)
    except Exception:
        return False


def model_trained_with(backend: Any, variables: Sequence[Any]) -> Optional[Any]:
    """Return the model whose variables an optimizer was given, None where it is not certain.

    Among the models alive, one whose trainable variables are just these; of several, the one
    that is around the others. Without one, the smallest model that has them all, if only one
    is that small. Walks all objects once.
    """
    key = backend.values.identity
    keys = {key(variable) for variable in variables}
    exact: List[Any] = []
    larger: List[Tuple[int, Any]] = []
    models = living_models(backend.keras)
    inner = {id(getattr(model, "_functional", None)) for model in models}
    for model in models:
        if id(model) in inner:
            continue  # The graph inside a Sequential, which nobody has made or named.
        own = _trainable(model)
        ids = {key(variable) for variable in own}
        if not keys or not keys <= ids:
            continue
        if len(ids) == len(keys):
            exact.append(model)
        else:
            larger.append((len(ids), model))
    if exact:
        sizes = {id(m): len(backend.graph.all_layers(m)) for m in exact}
        return max(exact, key=lambda m: sizes[id(m)])
    larger.sort(key=lambda pair: pair[0])
    if larger and (len(larger) == 1 or larger[0][0] < larger[1][0]):
        return larger[0][1]
    return None


def _trainable(model: Any) -> List[Any]:
    try:
        return list(model.trainable_variables)
    except Exception:
        return []  # Not built, or a subclass that is not ready yet.
