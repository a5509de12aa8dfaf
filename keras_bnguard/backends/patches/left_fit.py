"""When the running `fit` is left, also by an exception, which no hook of a callback reports.

A traceback keeps the frames of a `fit` that raised, and with them everything that it had, for as
long as somebody keeps the exception: a notebook until the next one. But Keras calls `fit` through
a frame of its own that shortens tracebacks, and that deletes one of its variables in `finally`,
whatever happened. What stands there until then is a mark whose end is noticed.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import weakref
from types import FrameType
from typing import Any, Callable

from keras_bnguard.backends.call_stack import callers, owner_of_call

VARIABLE = "filtered_tb"
"""Deleted in `finally` by the frame of Keras that calls `fit`; None until an exception."""


class _Mark:
    """Stands in a variable of Keras for as long as the `fit` runs."""


def when_fit_is_left(work: Callable[[], None]) -> None:
    """Call `work` once when the running `fit` is left.

    Where Keras does not shorten tracebacks, it is called when the list of callbacks that Keras
    made for this `fit` is collected: at once, or with the exception that ended it. Nothing
    happens outside a `fit`.

    Args:
        work: what to do; it may be called from the collector of garbage.
    """
    frames = callers()
    for place, frame in enumerate(frames):
        owner = owner_of_call(frame) if frame.f_code.co_name == "on_train_begin" else None
        if type(owner).__name__ == "CallbackList":
            mark = owner
            with contextlib.suppress(Exception):  # A frame cannot be written to, or not any more.
                mark = _mark_of(frames[place:]) or owner
            weakref.finalize(mark, work).atexit = False
            return


def _mark_of(frames: Any) -> Any:
    """The mark in the frame that called the innermost `fit`, None where there is no such frame."""
    fit = next(frame for frame in frames if frame.f_code.co_name == "fit")
    caller = fit.f_back
    if caller is None or VARIABLE not in caller.f_code.co_varnames:
        return None
    mark = caller.f_locals.get(VARIABLE, caller)
    if mark is None:
        mark = _Mark()
        _write(caller, mark)
    return mark if isinstance(mark, _Mark) else None


def _write(frame: FrameType, value: Any) -> None:
    """Write a local variable, as debuggers do; from Python 3.13 on `f_locals` writes through."""
    frame.f_locals[VARIABLE] = value
    if sys.version_info < (3, 13):
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
        # The frame keeps a copy of its variables, and with it a second reference to the value.
        del frame.f_locals[VARIABLE]
