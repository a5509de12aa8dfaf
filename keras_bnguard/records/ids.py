"""Keys for live layers that hold no reference to them."""

from __future__ import annotations

from typing import Any, NewType

LayerId = NewType("LayerId", int)


def layer_id(layer: Any) -> LayerId:
    """The key of a layer in mappings; valid as long as the layer lives."""
    return LayerId(id(layer))
