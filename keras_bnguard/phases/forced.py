"""The BN that a phase forces into inference mode, beside what the user forces."""

from __future__ import annotations

from typing import Any, Collection, Optional

from keras_bnguard.inference.force_inference import force_inference
from keras_bnguard.model.kept import find_kept, forget, kept_with


class _PhaseForcing:
    """The handle of the phase that runs on a model; kept with the model."""

    handle: Optional[force_inference] = None


def force_for_phase(model: Any, layers: Collection[int]) -> None:
    """Force the layers with these ids.

    What an earlier phase forced goes first, also what an exception inside `fit` left behind.
    """
    release_phase(model)
    if layers:
        handle = force_inference(model, layers=lambda layer: id(layer) in layers)
        kept_with(model, _PhaseForcing).handle = handle


def release_phase(model: Any) -> None:
    """Release what `force_for_phase` forces; no-op without it."""
    forcing = find_kept(model, _PhaseForcing)
    if forcing is not None and forcing.handle is not None:
        forcing.handle.release()
        forget(model, _PhaseForcing)
