"""Random states that reading data may move: kept, and put back bit for bit."""

from __future__ import annotations

import random
import sys
from typing import Any, Dict, List

import numpy as np


class random_states_kept:
    """Context manager: NumPy's, Python's and torch's global random states as they were, and
    those of the generators that `data` holds."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __enter__(self) -> None:
        self._held = [(each, _state(each)) for each in _generators(self._data)]
        self._python = random.getstate()
        self._numpy = np.random.get_state()
        torch = sys.modules.get("torch")
        self._torch = torch.get_rng_state() if torch is not None else None

    def __exit__(self, *exception: Any) -> None:
        for generator, state in self._held:
            _set_state(generator, state)
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch = sys.modules.get("torch")
        if torch is not None and self._torch is not None:
            torch.set_rng_state(self._torch)


def _generators(data: Any, depth: int = 3) -> List[Any]:
    """Random generators of NumPy, Python and torch held by an object in its attributes, or in
    those of the objects it holds, to some depth."""
    found: Dict[int, Any] = {}
    seen: Dict[int, Any] = {}

    def walk(thing: Any, left: int) -> None:
        if id(thing) in seen or left < 0:
            return
        seen[id(thing)] = thing
        if _state(thing) is not None:
            found[id(thing)] = thing
        elif isinstance(thing, (list, tuple, dict)):
            if len(thing) <= 64:
                for value in thing.values() if isinstance(thing, dict) else thing:
                    walk(value, left - 1)
        elif (
            hasattr(thing, "__dict__")
            and not isinstance(thing, type)
            and not hasattr(thing, "dtype")
        ):
            walk(vars(thing), left)
        bound = getattr(thing, "__self__", None) if callable(thing) else None
        closure = getattr(thing, "__closure__", None) or ()
        for value in (bound, *(_content(cell) for cell in closure)):
            if value is not None:
                walk(value, left - 1)

    walk(data, depth)
    return list(found.values())


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _state(thing: Any) -> Any:
    """The state of a random generator, None for anything else."""
    if isinstance(thing, np.random.Generator):
        return thing.bit_generator.state
    if isinstance(thing, np.random.RandomState):
        return thing.get_state()
    if isinstance(thing, random.Random):
        return thing.getstate()
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(thing, torch.Generator):
        return thing.get_state()
    return None


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)
