"""`# bnguard: ignore[BNG404]` at the end of a line of the user's code."""

from __future__ import annotations

import linecache
import re
from typing import Iterable, Optional

_COMMENT = re.compile(r"#\s*bnguard:\s*ignore(?:\[([A-Za-z0-9, ]*)\])?")


def is_ignored_at(code: str, places: Iterable[Optional[str]]) -> bool:
    """Whether a line of the user's code ignores a rule.

    Args:
        code: the code of a rule.
        places: "file.py:41": the line that caused the finding, and the line that trains.
    """
    return any(_ignores(code, place) for place in places if place)


def _ignores(code: str, place: str) -> bool:
    file, _, number = place.rpartition(":")
    if not file or not number.isdigit():
        return False
    found = _COMMENT.search(linecache.getline(file, int(number)))
    if found is None:
        return False
    codes = [each.strip().upper() for each in (found[1] or "").split(",")]
    return any(each == "" or code.startswith(each) for each in codes)
