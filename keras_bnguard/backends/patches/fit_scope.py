"""What `fit` was called with, for a callback that has to know before the first step.

Keras tells callbacks the number of epochs and steps and no more. The frame of `fit` is on the
call stack while callbacks are set up; its arguments are read there and nothing is changed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Callable, Iterator, List, Optional

from keras_bnguard.backends.values.keras_backup import find_backup

DEPTH = 40


@dataclass(frozen=True)
class FitArguments:
    """has_validation: `evaluate` runs after epochs, after every one if every_epoch.
    callbacks: the user's list, flat. epochs, initial_epoch: as `fit` counts them."""

    has_validation: bool
    callbacks: List[Any]
    epochs: Optional[int]
    initial_epoch: int
    every_epoch: bool = True


@dataclass(frozen=True)
class FitData:
    """What `fit` trains on: x, y and weights as they were given, after a validation split.

    batch_size: rows per batch of arrays, None for data that comes in batches. shuffle: what
    `fit` was told about arrays. steps_per_epoch: as given.
    """

    x: Any
    y: Any
    batch_size: Optional[int]
    shuffle: bool
    steps_per_epoch: Optional[int]


def fit_feed(model: Any) -> Optional[FitData]:
    """The data of the `fit` of this model that is on the call stack, None outside one."""
    values = _fit_values(model)
    if values is None:
        return None
    return FitData(
        x=values.get("x"),
        y=values.get("y"),
        batch_size=values.get("batch_size"),
        shuffle=bool(values.get("shuffle", True)),
        steps_per_epoch=values.get("steps_per_epoch"),
    )


def fit_arguments(model: Any) -> Optional[FitArguments]:
    """Arguments of the `fit` of this model that is on the call stack, None outside one."""
    values = _fit_values(model)
    if values is None:
        return None
    callbacks = values.get("callbacks")
    listed = getattr(callbacks, "callbacks", callbacks)
    frequency = values.get("validation_freq", 1)
    # Keras 3 goes on where a backup that was restored into this model once began.
    restored = getattr(model, "_initial_epoch", None)
    return FitArguments(
        has_validation=values.get("validation_data") is not None
        or bool(values.get("validation_split")),
        callbacks=_flat(listed),
        epochs=values.get("epochs"),
        initial_epoch=int(restored or values.get("initial_epoch") or 0),
        every_epoch=frequency == 1,
    )


def _fit_values(model: Any) -> Optional[Any]:
    for frame in _frames():
        name, found = frame.f_code.co_name, frame.f_locals
        if found.get("self") is not model:
            continue
        if name in ("evaluate", "predict"):
            return None  # A callback of that loop, which a fit may have around it.
        if name == "fit":
            return found
    return None


def put_backup_behind(callback: Any) -> None:
    """Let a `BackupAndRestore` of this `fit` run its hooks after those of `callback`.

    Its backup of an epoch then never exists without what `callback` noted of that epoch,
    wherever the process is killed. Called from `set_model`, while Keras walks the list; a
    place that was walked already is taken out before, so that nobody is left out.
    """
    for frame in _frames():
        listed = getattr(frame.f_locals.get("self"), "callbacks", None)
        if isinstance(listed, list) and any(each is callback for each in listed):
            break
    else:
        return
    backup = find_backup(listed)
    places = [i for i, each in enumerate(listed) if each is backup or each is callback]
    if backup is None or listed[places[0]] is not backup or len(places) < 2:
        return
    listed.insert(places[-1], listed.pop(places[0]))


def callback_list(callback: Any) -> Optional[Any]:
    """Keras's CallbackList that holds a callback and is calling it now; None outside one."""
    for frame in _frames():
        owner = frame.f_locals.get("self")
        listed = getattr(owner, "callbacks", None)
        if isinstance(listed, list) and any(each is callback for each in listed):
            return owner
    return None


def come_after(owner: Any, callback: Any, wanted: Callable[[Any], bool]) -> None:
    """From the next hook on, let those callbacks of a CallbackList that are wanted go first.

    The list is replaced, not changed: whoever walks it now still reaches everybody once.
    """
    listed = list(owner.callbacks)
    place = next(i for i, each in enumerate(listed) if each is callback)
    before = [each for each in listed[place + 1 :] if wanted(each)]
    if before:
        rest = [each for each in listed[place + 1 :] if not wanted(each)]
        owner.callbacks = [*listed[:place], *before, callback, *rest]


def named(callback: Any, *names: str) -> bool:
    """Whether a callback's class, or one it is made from, has one of these names."""
    return bool({cls.__name__ for cls in type(callback).__mro__} & set(names))


def _frames() -> Iterator[Any]:
    frame: Any = sys._getframe(2)
    for _ in range(DEPTH):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _flat(callbacks: Any) -> List[Any]:
    if callbacks is None:
        return []
    if isinstance(callbacks, (list, tuple)):
        return [each for item in callbacks for each in _flat(item)]
    return [callbacks]
