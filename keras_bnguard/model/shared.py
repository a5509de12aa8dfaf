"""BN that several compiled models hold."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

from keras_bnguard.backends.base import Backend
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.records import Inventory, SharedNorm
from keras_bnguard.records.ids import LayerId, layer_id


def find_shared(
    backend: Backend, model: Any, handles: Sequence[NormHandle], inventory: Inventory
) -> Tuple[SharedNorm, ...]:
    """BN of a model that other compiled models hold too, with their flags there.

    Visits every object of the process once: some tens of milliseconds.

    Args:
        backend: the backend of the model.
        model: the model.
        handles: its BN.
        inventory: its description.
    """
    path_of = {layer_id(handle.layer): handle.path for handle in handles}
    norms = {norm.path: norm for norm in inventory.norms}
    found: List[SharedNorm] = []
    for other in backend.step.other_models(model):
        flags = backend.flags.compiled(other) or {}
        contains = id(model) in flags or any(
            layer is model for layer in backend.graph.children(other)
        )
        for key, there in flags.items():
            path = path_of.get(LayerId(key))
            if path is None:
                continue
            here = norms[path].compiled_trainable
            found.append(
                SharedNorm(
                    path=path,
                    other=str(getattr(other, "name", "?")),
                    here=bool(norms[path].trainable if here is None else here),
                    there=there,
                    other_contains_model=contains,
                )
            )
    return tuple(found)
