"""What `fit` was called with, for a callback that has to know before the first step.

Keras tells callbacks the number of epochs and steps and no more. The frame of `fit` is on the
call stack while callbacks are set up; its arguments are read there and nothing is changed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, List, Optional


@dataclass(frozen=True)
class FitArguments:
    """has_validation: `evaluate` runs after epochs. callbacks: the user's list, flat."""

    has_validation: bool
    callbacks: List[Any]
    epochs: Optional[int]
    initial_epoch: int


def fit_arguments(model: Any, depth: int = 40) -> Optional[FitArguments]:
    """Arguments of the `fit` of this model that is on the call stack, None outside one."""
    frame: Any = sys._getframe(1)
    for _ in range(depth):
        if frame is None:
            return None
        values = frame.f_locals
        if frame.f_code.co_name == "fit" and values.get("self") is model:
            break
        frame = frame.f_back
    else:
        return None
    if frame is None:
        return None
    callbacks = values.get("callbacks")
    listed = getattr(callbacks, "callbacks", callbacks)
    if listed is None:
        listed = []
    elif not isinstance(listed, (list, tuple)):
        listed = [listed]
    return FitArguments(
        has_validation=values.get("validation_data") is not None
        or bool(values.get("validation_split")),
        callbacks=list(listed),
        epochs=values.get("epochs"),
        initial_epoch=int(values.get("initial_epoch") or 0),
    )
