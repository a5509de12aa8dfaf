"""Arguments of public functions: what several of them check, and where their errors end."""

from __future__ import annotations

import functools
import numbers
import os
from typing import Any, Callable, TypeVar, cast

from keras_bnguard.errors import BNGuardError, SettingError

Function = TypeVar("Function", bound=Callable[..., Any])


def check_flag(name: str, value: Any) -> bool:
    """A switch that the user set.

    Raises:
        SettingError: it is neither True nor False.
    """
    is_numpy = type(value).__name__ in ("bool_", "bool")  # NumPy 1 and 2; NumPy is not loaded.
    if not (isinstance(value, (bool, int)) or is_numpy) or value not in (True, False):
        raise SettingError(f"{name}={value!r}: expected True or False.")
    return bool(value)


def check_verbosity(name: str, value: Any) -> int:
    """How much a callback prints: 0 for nothing.

    Raises:
        SettingError: it is no whole number of 0 or more, nor True or False.
    """
    if not isinstance(value, numbers.Integral) or value < 0:
        raise SettingError(f"{name}={value!r}: expected 0 or 1.")
    return int(value)


def check_count(name: str, value: Any, at_least: int = 1) -> int:
    """A number of things.

    Raises:
        SettingError: it is no whole number, or too small.
    """
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or value < at_least:
        raise SettingError(f"{name}={value!r}: expected a whole number of at least {at_least}.")
    return int(value)


def check_path(name: str, value: Any, what: str) -> str:
    """The path of a file or folder as text.

    Raises:
        SettingError: it is neither a text nor an `os.PathLike`.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise SettingError(f"{name}={value!r}: expected {what}.")
    return os.fspath(value)


def short_traceback(function: Function) -> Function:
    """Decorator of a public function: the traceback of an error that this package raises on
    purpose ends at the line that called it.

    An error of the user's code that caused it stays its cause, with its own traceback.
    """

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BNGuardError as error:
            # Without `from`: what caused it is its cause already.
            raise error.with_traceback(None)  # noqa: B904

    return cast(Function, called)
