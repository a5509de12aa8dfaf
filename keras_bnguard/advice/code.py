"""The code that `advise` prints for the policy it recommends."""

from __future__ import annotations

from typing import Sequence

from keras_bnguard.model.expected_mode import expected_mode
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import ExpectedMode, Policy


def code_for(snapshot: ModelSnapshot, paths: Sequence[str], policy: Policy) -> str:
    """Code to paste.

    Args:
        snapshot: the model.
        paths: the BN that the policy is about.
        policy: the one to follow.
    """
    if policy is Policy.TRAINABLE:
        norms = [snapshot.inventory.norm(path) for path in paths]
        if any(expected_mode(norm)[0] is ExpectedMode.INFERENCE for norm in norms):
            return _unfreeze(paths)
        return "model.fit(...)  # as it is: these BN are trainable"
    layers = shortest_selector(snapshot, paths)
    lines = [f"bng.force_inference(model, layers={layers})", "model.fit(...)"]
    if policy is Policy.RECALIBRATED:
        lines.insert(0, f"bng.recalibrate(model, x, layers={layers})")
    return "\n".join(lines)


def _unfreeze(paths: Sequence[str]) -> str:
    return (
        f"for path in {list(paths)}:\n"
        "    layer = model\n"
        '    for name in path.split("/"):\n'
        "        layer = layer.get_layer(name)\n"
        "    layer.trainable = True  # and every model around it, if that is frozen\n"
        "model.compile(...)"
    )


def shortest_selector(snapshot: ModelSnapshot, paths: Sequence[str]) -> str:
    """The shortest selector, as Python code, that matches these BN and no other."""
    everything = [handle.path for handle in snapshot.handles]
    if len(paths) == len(everything):
        return '"*"'
    tops = {path.split("/", 1)[0] for path in paths}
    if all("/" in path for path in paths) and len(tops) == 1:
        top = tops.pop()
        inside = [path for path in everything if path.startswith(f"{top}/")]
        if len(inside) == len(paths):
            return f'"{top}/*"'
    return repr(list(paths))
