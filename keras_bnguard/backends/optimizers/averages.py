"""Averages of the weights that an optimizer keeps: where they are, and when they go into a model.

Keras's own `use_ema` puts them into the weights when `fit` ends, before any callback is called
(`finalize_variable_values` runs ahead of `on_train_end` in every Keras). `SwapEMAWeights` swaps
them in for validation and at epoch ends. TensorFlow Addons' `SWA` and `MovingAverage` keep them
until somebody calls `assign_average_vars`, as `AverageModelCheckpoint` does when it saves.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.optimizers.renewal import AVERAGES, inner_optimizer
from keras_bnguard.backends.patches.fit_scope import named
from keras_bnguard.records import Averaging


def assigns_averages(model: Any) -> bool:
    """Whether the optimizer keeps averages that somebody has to assign (TensorFlow Addons)."""
    return hasattr(_outer(model), "assign_average_vars")


def assign_averages(model: Any) -> None:
    """Put the averages of a TensorFlow Addons optimizer into the weights that train."""
    _outer(model).assign_average_vars(list(model.trainable_variables))


def keeper(model: Any) -> Optional[str]:
    """What keeps averages of a model's weights: `Adam(use_ema=True)`, `SWA`; None if nothing."""
    optimizer = _outer(model)
    if optimizer is None:
        return None
    if assigns_averages(model):
        return type(optimizer).__name__
    keeping = [each for each in _parts(optimizer) if getattr(each, "use_ema", False) is True]
    return f"{type(keeping[0]).__name__}(use_ema=True)" if keeping else None


def distance(backend: Any, model: Any) -> Optional[float]:
    """How far the averages are from the weights: norm of the difference over norm of the weights.

    None where there is nothing to compare yet. On JAX the values must be in the model.
    """
    difference = weight = 0.0
    pairs = _pairs(model)
    for variable, average in pairs:
        value = np.asarray(backend.values.to_numpy(variable), np.float64)
        difference += float(np.sum((value - np.asarray(backend.values.to_numpy(average))) ** 2))
        weight += float(np.sum(value**2))
    return math.sqrt(difference / weight) if pairs and weight > 0 else None


def averaging(
    model: Any, callbacks: Sequence[Any], measured: Optional[float]
) -> Optional[Averaging]:
    """What is known, when training ends, of averages a model's optimizer keeps."""
    name = keeper(model)
    if name is None:
        return None
    swaps = [each for each in callbacks if named(each, "SwapEMAWeights", "AverageModelCheckpoint")]
    return Averaging(
        keeper=name,
        assigned=not assigns_averages(model)
        or any(getattr(each, "update_weights", False) for each in swaps),
        swapped_by=tuple(dict.fromkeys(type(each).__name__ for each in swaps)),
        distance=measured,
        restored=any(_puts_weights_back(each) for each in callbacks),
    )


def after_swaps(
    model: Any, callbacks: Sequence[Any], swapped: Callable[[bool, bool], None]
) -> Callable[[], None]:
    """Call `swapped(inside, returns)` whenever averages went into the weights, or out again.

    inside: they are in now. returns: a later swap, which is reported too, takes them out, as
    `SwapEMAWeights` does; a TensorFlow Addons optimizer only puts them in. Both are watched
    through a function on the object itself, which the returned function takes off.
    """
    owners: List[Tuple[Any, str]] = []
    inside: Dict[int, bool] = {}

    def watch(owner: Any, name: str, toggles: bool) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def watched(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            inside[id(owner)] = not inside.get(id(owner), False) if toggles else True
            swapped(inside[id(owner)], toggles)
            return result

        object.__setattr__(owner, name, watched)
        owners.append((owner, name))

    for callback in callbacks:
        if named(callback, "SwapEMAWeights") and hasattr(callback, "_swap_variables"):
            watch(callback, "_swap_variables", toggles=True)
    if assigns_averages(model):
        watch(_outer(model), "assign_average_vars", toggles=False)

    def stop() -> None:
        while owners:
            owner, name = owners.pop()
            if name in vars(owner):
                object.__delattr__(owner, name)

    return stop


def _outer(model: Any) -> Any:
    return inner_optimizer(getattr(model, "optimizer", None))


def _parts(optimizer: Any) -> List[Any]:
    """The optimizer, or those a Keras 3 MultiOptimizer is made of."""
    parts = getattr(optimizer, "optimizers", None)
    return list(parts) if isinstance(parts, (list, tuple)) and parts else [optimizer]


def _pairs(model: Any) -> List[Tuple[Any, Any]]:
    """(variable, its average) for all that have one."""
    optimizer = _outer(model)
    if assigns_averages(model):
        try:
            return [(v, optimizer.get_slot(v, "average")) for v in model.trainable_variables]
        except KeyError:  # No step has been taken.
            return []
    found: List[Tuple[Any, Any]] = []
    for part in _parts(optimizer):
        kept = list(getattr(part, AVERAGES, None) or ())
        places = getattr(part, "_index_dict", None)
        if places is not None:  # Keras 2
            known = [(v, places.get(part._var_key(v))) for v in model.trainable_variables]
            found += [(v, kept[i]) for v, i in known if i is not None and i < len(kept)]
        else:
            found += list(zip(getattr(part, "_trainable_variables", ()), kept))
    return [(variable, average) for variable, average in found if average is not None]


def _puts_weights_back(callback: Any) -> bool:
    """`EarlyStopping` that will restore, or has restored, the weights of its best epoch."""
    return (
        named(callback, "EarlyStopping")
        and getattr(callback, "restore_best_weights", False)
        and getattr(callback, "best_weights", None) is not None
    )
