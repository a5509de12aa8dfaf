"""Tracebacks of a script as Python alone would show them: without frames of this package."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, List

OURS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
RUNNER = "_run"
"""The function that executes a script: what called it is not shown, what it calls is."""


def hide_our_frames() -> None:
    shown = sys.excepthook

    def excepthook(kind: Any, value: Any, trace: Any) -> None:
        with contextlib.suppress(Exception):
            seen: List[Any] = []
            _clean(value, seen)
            trace = value.__traceback__
        shown(kind, value, trace)

    sys.excepthook = excepthook


def _clean(error: Any, seen: List[Any]) -> None:
    """Take frames of this package, and what called it, out of an exception's traceback."""
    if error is None or any(error is other for other in seen):
        return
    seen.append(error)
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    ours = [_is_ours(each) for each in frames]
    outer = any(each.tb_frame.f_code.co_name == RUNNER and mine for each, mine in zip(frames, ours))
    kept = []
    for each, mine in zip(frames, ours):
        if outer:
            outer = not (mine and each.tb_frame.f_code.co_name == RUNNER)
        elif not mine:
            kept.append(each)
    for each, after in zip(kept, [*kept[1:], None]):
        each.tb_next = after
    error.__traceback__ = kept[0] if kept else None
    _clean(error.__cause__, seen)
    _clean(error.__context__, seen)
    for inner in getattr(error, "exceptions", ()):
        _clean(inner, seen)


def _is_ours(trace: Any) -> bool:
    return bool(trace.tb_frame.f_code.co_filename.startswith(OURS))
