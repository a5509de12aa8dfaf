"""Text and code that messages and fixes share."""

from __future__ import annotations

import re
import textwrap
from typing import Dict, Iterable, List, Optional, Sequence

from keras_bnguard.records import Inventory, NormKind, NormLayer

BNG = "import keras_bnguard as bng"


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


def freeze_code(inventory: Inventory, norms: Sequence[NormLayer]) -> str:
    """Code to paste that freezes these BN by their own flag and compiles again.

    A sub-model whose BN are all meant gets a loop over its layers, any other one a list of
    layers, so that a head's own BN is left alone.
    """
    code = inventory.user_code
    lines: List[str] = []
    everywhere = by_container([norm for norm in inventory.norms if norm.kind is NormKind.KERAS])
    for container, inside in by_container(norms).items():
        inside_of = _container(inside)
        every = len(everywhere.get(container, ())) == len(inside)
        if every and inside_of is not None and all(_is_built_in(norm) for norm in inside):
            lines += [
                f"for layer in {code.model}{inside_of}.layers:",
                "    if isinstance(layer, keras.layers.BatchNormalization):",
                "        layer.trainable = False",
            ]
        else:
            lines += setting(inventory, inside, "trainable = False")
    if any("keras.layers" in line for line in lines):
        lines.insert(0, code.keras_import)
    return indent("\n".join([*lines, *compile_again(inventory)]))


def setting(inventory: Inventory, norms: Sequence[NormLayer], assignment: str) -> List[str]:
    """Lines that set an attribute of some BN: `trainable = False`."""
    layers = [f"    {to(inventory, norm)}," for norm in norms]
    return ["for layer in [", *layers, "]:", f"    layer.{assignment}"]


def _is_built_in(norm: NormLayer) -> bool:
    return norm.builtin and norm.class_name == "BatchNormalization"


def _container(norms: Sequence[NormLayer]) -> Optional[str]:
    """How the sub-model of BN is reached, where all of them are among its `layers`."""
    found = {
        norm.container and reach(norm.container)[len("model") :]
        if norm.access is None
        else norm.access.rpartition(".get_layer(")[0]
        for norm in norms
    }
    direct = all(
        norm.access is None or re.search(r"(^|\))\.get_layer\([^()]*\)$", norm.access)
        for norm in norms
    )
    return found.pop() if len(found) == 1 and direct else None


def to(inventory: Inventory, norm: NormLayer) -> str:
    """Code that gets a BN: `model.get_layer("base").get_layer("bn")`."""
    known = reach(norm.path)[len("model") :] if norm.access is None else norm.access
    return inventory.user_code.model + known


def to_module(inventory: Inventory, norm: NormLayer) -> str:
    """Code that gets a torch module inside the Keras layer that wraps it."""
    wrapper = wrappers_of([norm])[0]
    known = reach(wrapper)[len("model") :] if norm.access is None else norm.access
    module = norm.path[len(wrapper) + 1 :]
    return f'{inventory.user_code.model}{known}.module.get_submodule("{module}")'


def compile_again(inventory: Inventory, learning_rate: Optional[float] = None) -> List[str]:
    """Lines that compile the model as it was, with a new optimizer of the same configuration.

    Args:
        inventory: the model.
        learning_rate: another learning rate. Defaults to None: that of the optimizer.
    """
    code = inventory.user_code
    if not inventory.compiled:
        return []
    config = "old.get_config()"
    if learning_rate is not None:
        config = f'{{**old.get_config(), "learning_rate": {learning_rate:g}}}'
    lines = [f"old = {code.model}.optimizer", f"optimizer = type(old).from_config({config})"]
    if code.compile_arguments is None:
        return [
            *lines,
            f"# Then {code.model}.compile() with this optimizer, all else as before.",
        ]
    arguments = ", ".join(["optimizer=optimizer", *filter(None, [code.compile_arguments])])
    imports = [code.keras_import] if "keras." in code.compile_arguments else []
    return [*imports, *lines, f"{code.model}.compile({arguments})"]


def before_line(inventory: Inventory) -> str:
    """Where a fix goes that works before training: "before train.py:41"."""
    return f"before {inventory.user_code.place}"


def after_line(inventory: Inventory) -> str:
    """Where a fix goes that works after training: "after train.py:41"."""
    return f"after {inventory.user_code.place}"


def bng_code(*lines: str) -> str:
    """Lines that use this package, with its import, as they stand in a fix."""
    return indent("\n".join([BNG, *lines]))


def recalibrate_code(inventory: Inventory, norms: Sequence[NormLayer] = ()) -> str:
    """Code that takes new statistics over the data of `fit`.

    Args:
        inventory: the model.
        norms: the BN it is for; frozen ones have to be named, as `recalibrate` leaves them out.
    """
    code = inventory.user_code
    named = any(norm.frozen or norm.forced_inference for norm in norms)
    layers = f", layers={[norm.path for norm in norms]!r}" if named else ""
    return bng_code(f"bng.recalibrate({code.model}, {code.x}{layers})")


def force_code(inventory: Inventory, norms: Sequence[NormLayer] = ()) -> str:
    """Code that forces BN into inference mode until the script ends.

    Args:
        inventory: the model.
        norms: the BN; empty for those that are frozen or called with `training=False`.
    """
    layers = f", layers={[norm.path for norm in norms]!r}" if norms else ""
    return bng_code(f"bng.force_inference({inventory.user_code.model}{layers})")


def indent(code: str) -> str:
    """Code as it stands in a fix: four spaces in."""
    return textwrap.indent(code, "    ")


def line_of_call(norms: Iterable[NormLayer], training: bool) -> Optional[str]:
    """ "file.py:12" of the first graph call that carries this value, where it was seen."""
    lines = (c.source for norm in norms for c in norm.calls if c.training is training)
    return next((line for line in lines if line), None)
