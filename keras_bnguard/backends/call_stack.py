"""The frames of the call stack: the only code of this package that walks through them."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import warnings
from types import FrameType
from typing import Any, Dict, List, Optional, Tuple, Type

from keras_bnguard.backends.known_stacks import FRAMEWORKS
from keras_bnguard.backends.processes.voice import speaks
from keras_bnguard.backends.signatures import OURS
from keras_bnguard.errors import BNGuardWarning

NOT_THE_USER = FRAMEWORKS | {OURS, "contextlib"}
"""Top-level packages whose frames are never the user's own line."""

_HOOKS = tuple(f"{OURS}.{name}" for name in ("auto.", "backends.patches.model_calls", "errors"))
"""Modules of ours that stand in front of Keras."""

_INSTALLED = frozenset({"site-packages", "dist-packages"})
_COMMANDS = os.path.dirname(sys.executable or "")
_LIBRARIES = tuple(
    os.path.join(folder, "")
    for folder in (os.path.dirname(os.path.abspath(os.__file__)), _COMMANDS)
    if folder != _COMMANDS or os.path.basename(folder) in ("bin", "Scripts")
)
"""The standard library, and the folder of commands that pip writes."""


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
    """Return the `self` of a frame, None where it is not a method."""
    return variables_of(frame).get("self") if "self" in frame.f_code.co_varnames else None


def variables_of(frame: FrameType) -> Dict[str, Any]:
    """Return a copy of the local variables of a frame.

    Up to Python 3.12 a frame keeps the dict that `f_locals` gives, and so keeps alive what the
    code deletes afterwards. That dict is emptied, unless the code itself has it from `locals()`.
    """
    kept = frame.f_locals
    found = dict(kept)
    in_a_function = bool(frame.f_code.co_flags & inspect.CO_OPTIMIZED)
    if in_a_function and isinstance(kept, dict) and sys.getrefcount(kept) <= _OF_NOBODY_ELSE:
        kept.clear()
    return found


_OF_NOBODY_ELSE = 3
"""References to that dict where only the frame, this function and `getrefcount` have it."""


def called_from(name: str, limit: int) -> bool:
    """Return whether a function of that name is among the nearest frames.

    Args:
        name: the name of a function.
        limit: how many frames are searched; the first is that of the caller.
    """
    return any(frame.f_code.co_name == name for frame in callers(limit))


def user_frame(*packages: str) -> Optional[FrameType]:
    """Return the frame of the user's own line, None where only frameworks are on the stack.

    It is the nearest that is in no installed package and not in the standard library, also where
    a library trains the model. Without such a frame it is the nearest outside frameworks.

    Args:
        packages: more top-level packages that are not the user's.
    """
    frames = [frame for frame in callers() if _may_be_the_users(frame, packages)]
    return _own(frames) or (frames[0] if frames else None)


def user_line(*packages: str) -> Optional[str]:
    """Return `file.py:41` of the user's own line, None without one; see `user_frame`.

    Args:
        packages: more top-level packages that are not the user's.
    """
    frame = user_frame(*packages)
    return None if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def called_by_us() -> bool:
    """Return whether code of this package that is no hook runs between here and the user's line."""
    for frame in callers():
        name = str(frame.f_globals.get("__name__", ""))
        if _may_be_the_users(frame, ()):
            return False
        if name.startswith(f"{OURS}.") and not name.startswith(_HOOKS):
            return True
    return False


def warn_user(message: str, category: Type[Warning] = BNGuardWarning) -> None:
    """Warn at the user's own line, in every run of it; of several processes in the chief only.

    Python's default filter shows a warning of one line once in a process, so the second `fit` of
    a loop would be silent. The user's filters count as ever: "ignore" hides, "error" raises.

    Args:
        message: the text.
        category: a class of warnings. Defaults to `BNGuardWarning`.
    """
    if not speaks():
        return
    found = callers()
    outside = [each for each in found if _outside_frameworks(each)]
    frame = _own(outside) or (outside or found)[0]
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=str(frame.f_globals.get("__name__") or "<unknown>"),
        registry={},
    )


@functools.lru_cache(maxsize=1024)
def is_library(file: str) -> bool:
    """Return whether a file belongs to an installed package or to the standard library.

    Args:
        file: as Python names it. Text in angle brackets, as of a notebook, is no library.
    """
    if file.startswith("<"):
        return False
    path = os.path.abspath(file)
    return path.startswith(_LIBRARIES) or not _INSTALLED.isdisjoint(path.split(os.sep))


def _may_be_the_users(frame: FrameType, packages: Tuple[str, ...]) -> bool:
    file = frame.f_code.co_filename
    return _outside_frameworks(frame, packages) and not file.startswith("<")


def _outside_frameworks(frame: FrameType, packages: Tuple[str, ...] = ()) -> bool:
    return _package(frame) not in NOT_THE_USER and _package(frame) not in packages


def _own(frames: List[FrameType]) -> Optional[FrameType]:
    return next((each for each in frames if not is_library(each.f_code.co_filename)), None)


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).split(".", 1)[0]
