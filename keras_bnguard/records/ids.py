"""Keys for layers that are in use; a key keeps no reference to its layer."""

from __future__ import annotations

from typing import Any, Mapping, NewType

LayerId = NewType("LayerId", int)

TrainableFlags = Mapping[LayerId, bool]
"""Layer -> its `trainable`."""


def layer_id(layer: Any) -> LayerId:
    """The key of a layer in mappings; valid as long as the layer lives."""
    return LayerId(id(layer))
