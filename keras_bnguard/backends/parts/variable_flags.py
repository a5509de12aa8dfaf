"""Variables that do not train though their layer does: below LoRA, or set so by the user."""

from __future__ import annotations

import weakref
from typing import Any, List, NamedTuple


class _Seen(NamedTuple):
    """What was read of a layer while its own flag was True."""

    frozen: List[Any]
    has_lora: bool


class VariableFlags:
    """Which variables of a layer of Keras 3 are frozen on their own.

    Keras's setter of a layer's `trainable` sets every variable, so only a layer that trains shows
    them. They are remembered from there. Of a layer that was frozen from the beginning, the
    variable below LoRA is known all the same.
    """

    def __init__(self) -> None:
        self._seen: weakref.WeakKeyDictionary[Any, _Seen] = weakref.WeakKeyDictionary()

    def is_frozen(self, variable: Any) -> bool:
        """Whether a variable of a layer that trains gets no gradient."""
        return not variable.trainable

    def frozen(self, layer: Any) -> List[Any]:
        """Return the variables that would not train if the layer did."""
        if layer._trainable:
            return [v for v in layer._trainable_variables if self.is_frozen(v)]
        seen = self._seen.get(layer, _Seen([], False))
        return seen.frozen + ([] if seen.has_lora else below_lora(layer))

    def open(self, layer: Any) -> List[Any]:
        """Return the variables that train where the layer does."""
        frozen = {id(variable) for variable in self.frozen(layer)}
        return [v for v in layer._trainable_variables if id(v) not in frozen]

    def set(self, layer: Any, flag: bool) -> None:
        """Set the flag of a layer, not of those inside it.

        Variables that are frozen on their own stay frozen.
        """
        trainable = {id(variable) for variable in self.open(layer)}
        if layer._trainable:
            self._seen[layer] = _Seen(self.frozen(layer), bool(below_lora(layer)))
        layer._trainable = bool(flag)
        for variable in layer._trainable_variables:
            variable.trainable = bool(flag) and id(variable) in trainable


def below_lora(layer: Any) -> List[Any]:
    """Return the variables that LoRA replaces: `_kernel` for `lora_kernel_a`; mostly none."""
    if not getattr(layer, "lora_enabled", False):
        return []
    found = []
    for name in vars(layer):
        first, *base, last = name.split("_") if name.count("_") > 1 else (name, "")
        if (first, last) == ("lora", "a"):
            found.append(getattr(layer, "_" + "_".join(base), None))
    return [variable for variable in found if variable is not None]
