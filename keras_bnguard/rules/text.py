"""Text and code that messages and fixes share."""

from __future__ import annotations

import textwrap
from typing import Dict, Iterable, List, Optional, Sequence

from keras_bnguard.records import Inventory, NormKind, NormLayer

COMPILE_AGAIN = (
    "old = model.optimizer\n"
    "optimizer = type(old).from_config(old.get_config())\n"
    "model.compile(optimizer=optimizer, loss=..., metrics=...)"
)


def count(number: int, noun: str) -> str:
    """`1 layer`, `2 layers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def some(paths: Sequence[str], limit: int = 3) -> str:
    """The first few paths and how many more: `a, b, c (+4 more)`."""
    head = ", ".join(paths[:limit])
    return head if len(paths) <= limit else f"{head} (+{len(paths) - limit} more)"


def reach(path: str) -> str:
    """Code that gets the layer at `path`: `model.get_layer("backbone")`."""
    return "model" + "".join(f'.get_layer("{name}")' for name in path.split("/") if name)


def wrappers_of(norms: Sequence[NormLayer]) -> List[str]:
    """Paths of the Keras layers that wrap modules inside them: the step below the container."""
    found: Dict[str, None] = {}
    for norm in norms:
        depth = len(norm.container.split("/")) if norm.container else 0
        found["/".join(norm.path.split("/")[: depth + 1])] = None
    return list(found)


def by_container(norms: Sequence[NormLayer]) -> Dict[str, List[NormLayer]]:
    """The BN layers under the path of the sub-model they belong to, in order."""
    found: Dict[str, List[NormLayer]] = {}
    for norm in norms:
        found.setdefault(norm.container, []).append(norm)
    return found


def names_code(norms: Sequence[NormLayer]) -> str:
    """A list literal with the names of layers that one sub-model holds."""
    names = ", ".join(f'"{norm.path.rsplit("/", 1)[-1]}"' for norm in norms)
    return "[" + "\n    ".join(textwrap.wrap(names, 84, break_long_words=False)) + "]"


def freeze_code(inventory: Inventory, norms: Sequence[NormLayer]) -> str:
    """Code to paste that freezes these BN by their own flag and compiles again.

    A sub-model whose BN are all meant gets a loop over its layers, any other one a list of
    names, so that a head's own BN is left alone.
    """
    lines: List[str] = []
    everywhere = by_container([norm for norm in inventory.norms if norm.kind is NormKind.KERAS])
    for container, inside in by_container(norms).items():
        lines.append(f"base = {reach(container)}")
        if len(everywhere.get(container, ())) == len(inside):
            lines += [
                "for layer in base.layers:",
                "    if isinstance(layer, keras.layers.BatchNormalization):",
                "        layer.trainable = False",
            ]
        else:
            lines += [
                f"for name in {names_code(inside)}:",
                "    base.get_layer(name).trainable = False",
            ]
    return indent("\n".join([*lines, COMPILE_AGAIN]))


def indent(code: str) -> str:
    """Code as it stands in a fix: four spaces in."""
    return textwrap.indent(code, "    ")


def line_of_call(norms: Iterable[NormLayer], training: bool) -> Optional[str]:
    """ "file.py:12" of the first graph call that carries this value, where it was seen."""
    lines = (c.source for norm in norms for c in norm.calls if c.training is training)
    return next((line for line in lines if line), None)
