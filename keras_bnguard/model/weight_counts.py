"""How many values of a model train in `fit` as its flags are, which `summary()` need not show."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, Tuple

from keras_bnguard.backends.base import Backend
from keras_bnguard.records import FlagTiming, NormKind, WeightCounts
from keras_bnguard.records.ids import LayerId, TrainableFlags, layer_id


def count_weights(
    backend: Backend, model: Any, flag: Callable[[Any], bool], compiled: TrainableFlags
) -> WeightCounts:
    """Count the values that gradients reach, and those that they could reach.

    Keras 2 trains by the flags of `compile()`, and a frozen layer freezes those inside it;
    Keras 3 trains by each layer's own flag as it is now. A layer that is shared counts once.

    Args:
        backend: the backend of the model.
        model: the model.
        flag: returns the `trainable` of a layer as it is now.
        compiled: id of a layer -> its flag at `compile()`.
    """
    by_compile = backend.flags.timing is FlagTiming.COMPILE
    open_: Dict[LayerId, bool] = {}
    layers: Dict[LayerId, Any] = {}

    def visit(layer: Any, above: bool) -> None:
        own = flag(layer)
        if by_compile:
            own = above and compiled.get(layer_id(layer), own)
        if layer_id(layer) in open_ and (open_[layer_id(layer)] or not own):
            return
        open_[layer_id(layer)] = own
        layers[layer_id(layer)] = layer
        for child in backend.graph.children(layer):
            visit(child, own)

    visit(model, True)
    sizes = {key: backend.flags.trainable_count(layer) for key, layer in layers.items()}
    norms = {key for key, layer in layers.items() if backend.graph.is_norm(layer)}
    hidden = {key: _of_torch_norms(backend, layer) for key, layer in layers.items()}
    return WeightCounts(
        trainable=sum(size for key, size in sizes.items() if open_[key]),
        total=sum(sizes.values()),
        norm_trainable=sum(sizes[key] for key in norms if open_[key])
        + sum(trained for key, (trained, _) in hidden.items() if open_[key]),
        norm_total=sum(sizes[key] for key in norms) + sum(total for _, total in hidden.values()),
    )


def _of_torch_norms(backend: Backend, layer: Any) -> Tuple[int, int]:
    """How many values of gamma and beta get gradients in torch modules of a layer, of how many."""
    affine = [
        variable
        for handle in backend.graph.hidden_handles(layer, "")
        if handle.kind is NormKind.TORCH
        for variable in handle.vectors()[2:]
        if variable is not None
    ]
    sizes = [(math.prod(int(d) for d in each.shape), each.requires_grad) for each in affine]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)
