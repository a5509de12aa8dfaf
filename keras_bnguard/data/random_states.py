"""Random generators that data holds: reading the data changes their states."""

from __future__ import annotations

from typing import Any, Dict, List

from keras_bnguard.backends.values.random_states import RandomState, generator_state


def states_in(data: Any) -> List[RandomState]:
    """Return the states of the random generators that data holds, to restore them.

    Args:
        data: any data container; its attributes, closures and elements are searched.
    """
    states = (generator_state(each) for each in _generators(data))
    return [state for state in states if state is not None]


def _generators(data: Any, depth: int = 3) -> List[Any]:
    """Generators of NumPy, Python and torch in the attributes of an object, or of the objects in
    them, to some depth."""
    found: Dict[int, Any] = {}
    seen: Dict[int, Any] = {}

    def walk(thing: Any, left: int) -> None:
        if id(thing) in seen or left < 0:
            return
        seen[id(thing)] = thing
        if generator_state(thing) is not None:
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
