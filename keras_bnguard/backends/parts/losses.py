"""The compiled losses of a model, one output at a time."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

LossPart = Tuple[Tuple[int, Any], Any, Any, Any]
"""((place, name) of an output, its loss, its target, its prediction)."""


def loss_parts(loss: Any, y: Any, outputs: Any, names: Optional[Sequence[str]]) -> List[LossPart]:
    """Return the parts of a model's loss, one for each output that has a loss.

    Args:
        loss: what `compile` was given: a loss, or a list or dict of losses.
        y: the targets of a batch, structured as `fit` takes them.
        outputs: the predictions of the batch.
        names: the names of the model's outputs, None where it has none.
    """
    if isinstance(outputs, dict):
        wanted = y if isinstance(y, dict) else dict.fromkeys(outputs, y)
        chosen = loss if isinstance(loss, dict) else dict.fromkeys(outputs, loss)
        return [
            ((i, k), chosen[k], wanted[k], outputs[k])
            for i, k in enumerate(outputs)
            if chosen.get(k) is not None
        ]
    if isinstance(outputs, (list, tuple)):
        keys = list(names or range(len(outputs)))
        targets = [y[k] for k in keys] if isinstance(y, dict) else list(y)
        if isinstance(loss, dict):
            chosen_list = [loss.get(k) for k in keys]
        else:
            chosen_list = list(loss) if isinstance(loss, (list, tuple)) else [loss] * len(keys)
        rows = zip(enumerate(keys), chosen_list, targets, outputs)
        return [row for row in rows if row[1] is not None]
    return [((0, None), loss, y, outputs)] if loss is not None else []


def loss_weights(model: Any, places: Sequence[Tuple[int, Any]]) -> List[float]:
    """Return the `loss_weights` of `compile` for some outputs; 1.0 where none can be read."""
    try:
        given = model.get_compile_config()["loss_weights"]
    except Exception:
        given = None
    if isinstance(given, (int, float)):
        return [float(given)] * len(places)
    if isinstance(given, dict):
        return [float(given.get(name, 1.0)) for _, name in places]
    if isinstance(given, (list, tuple)):
        return [float(given[i]) if i < len(given) else 1.0 for i, _ in places]
    return [1.0] * len(places)


def weighted_parts(model: Any, y: Any, outputs: Any) -> List[Tuple[float, LossPart]]:
    """Return `(weight, part)` for each output of a compiled model that has a loss."""
    parts = [
        (place, loss, in_rank_of(output, target), output)
        for place, loss, target, output in loss_parts(
            model.loss, y, outputs, getattr(model, "output_names", None)
        )
    ]
    return list(zip(loss_weights(model, [part[0] for part in parts]), parts))


def in_rank_of(output: Any, target: Any) -> Any:
    """Return a target in the rank that `fit` gives it: `(rows,)` beside outputs `(rows, 1)` gets
    a last axis; without it a plain loss function would compare every row with every other."""
    given, wanted = np.ndim(target), np.ndim(output)
    if isinstance(target, (dict, list, tuple)):
        return target
    if given == wanted - 1 and np.shape(output)[-1] == 1:
        return np.expand_dims(target, -1)
    if given == wanted + 1 and np.shape(target)[-1] == 1:
        return np.squeeze(target, -1)
    return target


def loss_name(loss: Any) -> str:
    """Return a name for what `compile` was given as loss, to compare two."""
    if isinstance(loss, dict):
        return str({key: loss_name(each) for key, each in loss.items()})
    if isinstance(loss, (list, tuple)):
        return str([loss_name(each) for each in loss])
    if loss is None or isinstance(loss, str):
        return str(loss)
    return str(getattr(loss, "name", None) or getattr(loss, "__name__", type(loss).__name__))
