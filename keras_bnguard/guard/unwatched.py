"""Training that a guard cannot watch: it emits one line, and its report has the same sentence."""

from __future__ import annotations

import contextlib
from typing import Any, Optional

from keras_bnguard.backends.call_stack import warn_user
from keras_bnguard.backends.graph_mode import GRAPH_MODE
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.errors import BNGuardWarning
from keras_bnguard.report.report import Report


def unwatched(model: Any) -> Optional[Report]:
    """Return the report of a training that cannot be watched, None where it can be.

    It is emitted as a `BNGuardWarning`, which never ends the training.

    Args:
        model: the model; none of its values are read.
    """
    if not backend_for(model).step.in_graph_mode():
        return None
    with contextlib.suppress(BNGuardWarning):  # Not an error about the user's training.
        warn_user(f"BNGuard disabled itself: {GRAPH_MODE}.")
    name = str(getattr(model, "name", type(model).__name__))
    return Report(model=name, stack=None, notes=(f"{GRAPH_MODE}.",))
