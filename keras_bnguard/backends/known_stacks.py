"""The names of all stacks, backends and frameworks: the one place that has them as literals.

A new backend is one row here and one module in `adapters/` with the five classes of `interface.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import FrozenSet, Tuple

TENSORFLOW = "tensorflow"
TORCH = "torch"
JAX = "jax"


@dataclass(frozen=True)
class KnownStack:
    """A Keras on a backend.

    Attributes:
        name: the name of the stack.
        package: the import name of the Keras.
        generation: the major version of the Keras.
        oldest: the oldest version that works.
        backend: what computes, as `keras.backend.backend()` returns it.
        distribution: what to install with pip.
        adapter: the module in `adapters/` that has its five classes, as `PARTS`.
    """

    name: str
    package: str
    generation: int
    oldest: Tuple[int, int]
    backend: str
    distribution: str
    adapter: str


KNOWN_STACKS: Tuple[KnownStack, ...] = (
    KnownStack("k2", "keras", 2, (2, 12), TENSORFLOW, TENSORFLOW, "keras2"),
    KnownStack("tfk", "tf_keras", 2, (2, 15), TENSORFLOW, "tf_keras", "keras2"),
    KnownStack("k3-tf", "keras", 3, (3, 3), TENSORFLOW, "keras", "keras3_tensorflow"),
    KnownStack("k3-jax", "keras", 3, (3, 3), JAX, "keras", "keras3_jax"),
    KnownStack("k3-torch", "keras", 3, (3, 3), TORCH, "keras", "keras3_torch"),
)

PACKAGES: Tuple[str, ...] = tuple(dict.fromkeys(known.package for known in KNOWN_STACKS))
"""Import names of the Kerases, the usual one first."""

FRAMEWORKS: FrozenSet[str] = frozenset(PACKAGES) | {known.backend for known in KNOWN_STACKS}
"""Import names of every Keras and of what it computes with."""


def import_statement(name: str) -> str:
    """The statement that imports the Keras of a stack as `keras`.

    Args:
        name: the name of a stack; any other name is taken for Keras 3.
    """
    known = next((each for each in KNOWN_STACKS if each.name == name), KNOWN_STACKS[-1])
    if known.generation > 2:
        return f"import {known.package}"
    if known.package == known.distribution:
        return f"import {known.package} as keras"
    return f"from {known.backend} import {known.package}"
