"""Nested structures of arrays: dicts, lists and tuples, with arrays or None as leaves.

Lists and tuples both come back as lists: a model takes one as well as the other. Rows are the
first axis of every leaf.
"""

from __future__ import annotations

from typing import Any, Callable, List, Sequence

import numpy as np


def map_leaves(function: Callable[[Any], Any], structure: Any) -> Any:
    """Apply a function to every leaf; None stays None."""
    if isinstance(structure, dict):
        return {key: map_leaves(function, value) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        return [map_leaves(function, value) for value in structure]
    return None if structure is None else function(structure)


def leaves(structure: Any) -> List[Any]:
    """All leaves in order, without None."""
    if isinstance(structure, dict):
        return [leaf for value in structure.values() for leaf in leaves(value)]
    if isinstance(structure, (list, tuple)):
        return [leaf for value in structure for leaf in leaves(value)]
    return [] if structure is None else [structure]


def first_leaf(structure: Any) -> Any:
    """The first leaf, None where there is none."""
    return next(iter(leaves(structure)), None)


def take(structure: Any, rows: Any) -> Any:
    """Chosen rows of every leaf.

    Args:
        structure: arrays with rows on the first axis.
        rows: a slice, or an array of places, in the order wanted.
    """
    return map_leaves(lambda leaf: leaf[rows], structure)


def join(parts: Sequence[Any]) -> Any:
    """Structures of one form as a single one, rows after rows; None where they are None."""
    first = parts[0]
    if isinstance(first, dict):
        return {key: join([part[key] for part in parts]) for key in first}
    if isinstance(first, (list, tuple)):
        return [join(leaf) for leaf in zip(*parts)]
    return None if first is None else np.concatenate([np.asarray(part) for part in parts])
