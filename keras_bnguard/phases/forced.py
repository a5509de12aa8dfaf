"""The BN that a phase forces into inference mode, beside what the user forces."""

from __future__ import annotations

import weakref
from typing import Any, Collection

from keras_bnguard.inference.force_inference import force_inference

_HANDLES: weakref.WeakKeyDictionary[Any, force_inference] = weakref.WeakKeyDictionary()


def force_for_phase(model: Any, layers: Collection[int]) -> None:
    """Force the layers with these ids.

    What an earlier phase forced goes first, also what an exception inside `fit` left behind.
    """
    release_phase(model)
    if layers:
        _HANDLES[model] = force_inference(model, layers=lambda layer: id(layer) in layers)


def release_phase(model: Any) -> None:
    """Release what `force_for_phase` forces; no-op without it."""
    handle = _HANDLES.pop(model, None)
    if handle is not None:
        handle.release()
