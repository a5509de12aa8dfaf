"""JSON from a file that may come from anywhere: limits to its size, its nesting and its calls."""

from __future__ import annotations

import json
from typing import Any, Dict, Union

from keras_bnguard.errors import ModelFileError

TEXT_BYTES = 16 * 2**20
"""The largest model known to us is described in less than two MB."""

OBJECTS = 500_000
"""Lists and objects in it; NASNetLarge has 30,000."""

NESTING = 300
"""A model in a model takes eight levels."""

CALLS = 100_000
"""Objects that Keras makes or calls, each as often as the graphs around it call it."""

_DIGITS = 40


def read_json(path: Any, name: str, text: Union[bytes, str]) -> Any:
    """The value of a JSON text.

    Args:
        path: the file it comes from, for messages.
        name: what it is in that file, for messages.
        text: UTF-8.

    Raises:
        ModelFileError: it is larger, or nested deeper, than any model.
        ValueError: it is no JSON.
    """
    if len(text) > TEXT_BYTES:
        raise ModelFileError(f"{path} is refused: its {name} has more than {TEXT_BYTES >> 20} MB.")
    data = text.encode("utf-8", "replace") if isinstance(text, str) else bytes(text)
    if data.count(b"[") + data.count(b"{") > OBJECTS:
        raise ModelFileError(f"{path} is refused: its {name} has more than {OBJECTS:,} objects.")
    value = json.loads(data, parse_int=_whole)
    _check_nesting(path, name, value)
    return value


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _check_nesting(path: Any, name: str, value: Any) -> None:
    level = [value]
    for _ in range(NESTING):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise ModelFileError(f"{path} is refused: its {name} is nested more than {NESTING} deep.")


def check_calls(path: Any, config: Any) -> None:
    """Refuse a description that Keras would unfold into far more than is written in it.

    A model that calls a model twice, which calls another twice, and so on, doubles with each.

    Raises:
        ModelFileError: it takes more than `CALLS`.
    """
    if _calls(config, {}) > CALLS:
        raise ModelFileError(f"{path} is refused: its graphs would make more than {CALLS:,} calls.")


def _calls(value: Any, shared: Dict[Any, int]) -> int:
    """How many objects Keras makes or calls for a JSON value."""
    if isinstance(value, list):
        return sum(_calls(each, shared) for each in value if isinstance(each, (dict, list)))
    if not isinstance(value, dict):
        return 0
    inside = {key: _calls(v, shared) for key, v in value.items() if isinstance(v, (dict, list))}
    if "class_name" not in value:
        return sum(inside.values())
    nodes = value.get("inbound_nodes")
    times = max(1, len(nodes)) if isinstance(nodes, list) else 1
    tensors = inside.pop("inbound_nodes", 0)
    total = (1 + sum(inside.values())) * times + tensors
    # The same object may be written once and named by its number elsewhere.
    number = value.get("shared_object_id")
    if isinstance(number, int):
        total = shared[number] = max(total, shared.get(number, 0))
    return min(total, CALLS + 1)
