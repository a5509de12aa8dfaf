"""The base of enums whose members are written to reports and JSON."""

from __future__ import annotations

from enum import Enum


class TextEnum(str, Enum):
    """An enum whose members equal their text: `Severity.ERROR == "error"`.

    `str()`, f-strings and `json` give that text, on every Python version.
    """

    __hash__ = str.__hash__

    def __str__(self) -> str:
        return str(self.value)
