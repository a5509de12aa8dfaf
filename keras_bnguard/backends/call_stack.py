"""The frames of the call stack: the only code of this package that walks through them."""

from __future__ import annotations

import sys
import warnings
from types import FrameType
from typing import Any, List, Optional, Type

from keras_bnguard.backends.known_stacks import FRAMEWORKS
from keras_bnguard.backends.signatures import OURS
from keras_bnguard.errors import BNGuardWarning

NOT_THE_USER = FRAMEWORKS | {OURS, "contextlib"}
"""Top-level packages whose frames are never the user's own line."""


def callers(limit: Optional[int] = None) -> List[FrameType]:
    """Return the frames outside the function that calls this one, innermost first.

    Args:
        limit: the most frames to return. Defaults to None: all.
    """
    found: List[FrameType] = []
    frame: Optional[FrameType] = sys._getframe(2)
    while frame is not None and len(found) != limit:
        found.append(frame)
        frame = frame.f_back
    return found


def owner_of_call(frame: FrameType) -> Any:
    """Return the `self` of a frame, None where it is not a method.

    Only frames that have one are read: what is read of a frame is kept by it, and what it kept
    is alive for as long as a traceback.
    """
    return frame.f_locals.get("self") if "self" in frame.f_code.co_varnames else None


def called_from(name: str, limit: int) -> bool:
    """Return whether a function of that name is among the nearest frames.

    Args:
        name: the name of a function.
        limit: how many frames are searched; the first is that of the caller.
    """
    return any(frame.f_code.co_name == name for frame in callers(limit))


def user_frame(*packages: str) -> Optional[FrameType]:
    """Return the innermost frame of the user's code, None without one.

    Args:
        packages: more top-level packages that are not the user's.
    """
    for frame in callers():
        file = frame.f_code.co_filename
        if _package(frame) not in NOT_THE_USER.union(packages) and not file.startswith("<"):
            return frame
    return None


def user_line(*packages: str) -> Optional[str]:
    """Return `file.py:41` of the innermost frame of the user's code, None without one.

    Args:
        packages: more top-level packages that are not the user's.
    """
    frame = user_frame(*packages)
    return None if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def warn_user(message: str, category: Type[Warning] = BNGuardWarning) -> None:
    """Warn at the user's own line, in every run of it.

    Python's default filter shows a warning of one line once in a process, so the second `fit` of
    a loop would be silent. The user's filters count as ever: "ignore" hides, "error" raises.

    Args:
        message: the text.
        category: a class of warnings. Defaults to `BNGuardWarning`.
    """
    found = callers()
    frame = next((each for each in found if _package(each) not in NOT_THE_USER), found[0])
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=str(frame.f_globals.get("__name__") or "<unknown>"),
        registry={},
    )


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).split(".", 1)[0]
