"""The hold of a phase, on top of what the user holds with `guard`; theirs comes back after."""

from __future__ import annotations

import weakref
from typing import Any, Collection, Optional, Tuple

from keras_bnguard.holding import GUARDED, is_guarded
from keras_bnguard.selectors import Selectors, as_list
from keras_bnguard.train_step import guard, unguard

_USERS: weakref.WeakKeyDictionary[Any, Tuple[bool, Optional[Selectors]]]
_USERS = weakref.WeakKeyDictionary()


def put_hold(model: Any, layers: Collection[int]) -> None:
    """Hold the layers with these ids, with what the user's own `guard` holds.

    A hold of an earlier phase goes first, also one that an exception inside `fit` left behind.
    """
    take_hold_off(model)
    if not layers:
        return
    state = GUARDED.get(model)
    wanted = None if state is None else state.wanted
    _USERS[model] = (is_guarded(model), wanted)
    own = [] if wanted is None else as_list(wanted)
    guard(model, hold=[*own, lambda layer: id(layer) in layers])


def take_hold_off(model: Any) -> None:
    """Give the model back the step it had before `put_hold`; no-op without one."""
    users = _USERS.pop(model, None)
    if users is None:
        return
    guarded, wanted = users
    if guarded:
        guard(model, hold=wanted)
    else:
        unguard(model)
