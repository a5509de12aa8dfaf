"""How results are shown: one line in a terminal, the whole text in a notebook."""

from __future__ import annotations

import html
from typing import Any, Callable, TypeVar

T = TypeVar("T", bound=type)


class Shown:
    """A result whose `print` is a text, and whose `repr` is one line about it."""

    def _summary(self) -> str:
        """The result in a few words."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._summary()}>"

    def _repr_html_(self) -> str:
        return preformatted(str(self))


def shown(summary: Callable[[Any], str], text: Callable[[Any], str]) -> Callable[[T], T]:
    """A decorator of a class with a one-line `repr` and a notebook view.

    Args:
        summary: an object -> it in a few words.
        text: an object -> HTML of all of it.
    """

    def decorate(cls: T) -> T:
        named: Any = cls
        named.__repr__ = lambda self: f"<{type(self).__name__}: {summary(self)}>"
        named._repr_html_ = text
        return cls

    return decorate


def preformatted(text: str) -> str:
    """Text as an HTML element."""
    return f"<pre>{html.escape(text)}</pre>"
