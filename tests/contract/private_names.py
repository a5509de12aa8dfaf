"""The mark of a test about private names of a framework."""

from __future__ import annotations

from typing import Any, Callable, Optional


def private(names: str, on: bool = True) -> Callable[[Any], Optional[Any]]:
    """Mark a test as that of some private names; it does not exist where they are not used.

    Args:
        names: the names, separated by spaces. `test_private_names.py` reads them.
        on: whether the stack under test has them.
    """
    return (lambda test: test) if on else (lambda test: None)
