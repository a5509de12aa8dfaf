"""The `fit` that is running: its frame, its arguments, and the order of its callbacks.

Keras passes callbacks the number of epochs and steps and no more. The frame of `fit` is on the
call stack while callbacks are set up; its arguments are read there and nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Sequence

from keras_bnguard.backends.call_stack import callers, owner_of_call, variables_of
from keras_bnguard.backends.known_stacks import FRAMEWORKS
from keras_bnguard.backends.signatures import OURS, package_of

DEPTH = 40
"""How many frames are searched for the `fit` that calls a callback."""

Wanted = Callable[[Any], bool]
"""Picks callbacks."""


def _nobody(callback: Any) -> bool:
    return False


@dataclass(frozen=True)
class FitArguments:
    """Arguments of `fit` that are not its data.

    Attributes:
        has_validation: whether `evaluate` runs after epochs.
        callbacks: the callbacks of the user, nested lists flattened.
        epochs: as given, None where `fit` has no such argument.
        initial_epoch: the first epoch, that of a restored run where there is one.
        validation_freq: after how many epochs `evaluate` runs, or after which, counted from 1.
            Defaults to 1: after every epoch.
    """

    has_validation: bool
    callbacks: List[Any]
    epochs: Optional[int]
    initial_epoch: int
    validation_freq: Any = 1

    @property
    def every_epoch(self) -> bool:
        """Whether `evaluate` runs after every epoch."""
        return bool(self.validation_freq == 1)

    @property
    def ever_validates(self) -> bool:
        """Whether `evaluate` runs after any epoch of this `fit`, as far as that is known."""
        if not self.has_validation or self.epochs is None:
            return self.has_validation
        freq, numbers = self.validation_freq, range(self.initial_epoch + 1, self.epochs + 1)
        if isinstance(freq, int):
            return not numbers or any(number % freq == 0 for number in numbers)
        return not numbers or any(number in freq for number in numbers)


@dataclass(frozen=True)
class FitData:
    """What `fit` trains on, after a validation split.

    Attributes:
        x: inputs as given.
        y: targets as given.
        batch_size: rows per batch of arrays, None for data that comes in batches.
        shuffle: the argument of `fit`, which counts for arrays.
        steps_per_epoch: as given.
    """

    x: Any
    y: Any
    batch_size: Optional[int]
    shuffle: bool
    steps_per_epoch: Optional[int]


def running_fit(model: Any) -> Optional[int]:
    """Return a mark of the `fit` of a model that is on the call stack, None without one."""
    for frame in callers():
        if frame.f_code.co_name == "fit" and owner_of_call(frame) is model:
            return id(frame)
    return None


def inside_fit(mark: Optional[int]) -> bool:
    """Return whether the code that runs now was called, at any depth, from that very `fit`.

    A `fit` that an exception ended may live on in a traceback: then it is not on the stack, and
    no other one has its mark.

    Args:
        mark: what `running_fit` returned.
    """
    return any(id(frame) == mark for frame in callers())


def fit_data(model: Any) -> Optional[FitData]:
    """Return the data of the `fit` of this model that is on the call stack, None without one."""
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
    """Return the arguments of the `fit` of this model on the call stack, None without one."""
    values = _fit_values(model)
    if values is None:
        return None
    callbacks = values.get("callbacks")
    listed = getattr(callbacks, "callbacks", callbacks)
    # Keras 3 goes on where a backup that was restored into this model once began.
    restored = getattr(model, "_initial_epoch", None)
    return FitArguments(
        has_validation=values.get("validation_data") is not None
        or bool(values.get("validation_split")),
        callbacks=_flat(listed),
        epochs=values.get("epochs"),
        initial_epoch=int(restored or values.get("initial_epoch") or 0),
        validation_freq=values.get("validation_freq", 1),
    )


def model_in_fit() -> Optional[Any]:
    """Return the model whose `fit` is on the call stack, None without one.

    A CallbackList that the user made without `model=` gives its callbacks no model.
    """
    for frame in callers(DEPTH):
        owner = owner_of_call(frame)
        if frame.f_code.co_name == "fit" and hasattr(owner, "train_function"):
            return owner
    return None


def _fit_values(model: Any) -> Optional[Any]:
    for frame in callers(DEPTH):
        if owner_of_call(frame) is not model:
            continue
        name = frame.f_code.co_name
        if name in ("evaluate", "predict"):
            return None  # A callback of that loop, which a fit may have around it.
        if name == "fit":
            return variables_of(frame)
    return None


def find_backup(callbacks: List[Any]) -> Optional[Any]:
    """Return the `BackupAndRestore` among callbacks, None without one."""
    for callback in callbacks:
        if (
            named(callback, "BackupAndRestore")
            and getattr(callback, "backup_dir", None) is not None
        ):
            return callback
    return None


def put_backup_behind(callback: Any) -> None:
    """Let a `BackupAndRestore` of this `fit` run its hooks after those of `callback`.

    Its backup of an epoch then never exists without what `callback` saved of that epoch,
    wherever the process is killed. Called from `set_model`, while Keras walks the list: an
    entry that Keras has passed is moved from before the present place, so nothing is skipped.
    """
    for frame in callers(DEPTH):
        listed = getattr(owner_of_call(frame), "callbacks", None)
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
    """Return the CallbackList of Keras that is calling a callback now, None without one."""
    for frame in callers(DEPTH):
        owner = owner_of_call(frame)
        listed = getattr(owner, "callbacks", None)
        if isinstance(listed, list) and any(each is callback for each in listed):
            return owner
    return None


def put_in_order(
    owner: Any, callback: Any, *, before: Wanted = _nobody, after: Wanted = _nobody
) -> None:
    """From the next hook on, run some callbacks of a CallbackList before or after `callback`.

    The list is replaced, not changed: a loop over it that runs now still reaches each entry once.

    Args:
        owner: the CallbackList.
        callback: one of its callbacks.
        before: whether a callback is to run before it. Defaults to none.
        after: whether a callback is to run after it. Defaults to none.
    """
    listed = list(owner.callbacks)
    place = next(i for i, each in enumerate(listed) if each is callback)
    earlier, later = listed[:place], listed[place + 1 :]
    advanced = [each for each in later if before(each)]
    delayed = [each for each in earlier if after(each)]
    if advanced or delayed:
        stay_earlier = [each for each in earlier if not after(each)]
        stay_later = [each for each in later if not before(each)]
        owner.callbacks = [*stay_earlier, *advanced, callback, *delayed, *stay_later]


def put_around(owner: Any, first: Any, last: Any) -> None:
    """From the next hook on, run one callback before and one after those of a CallbackList.

    The list is replaced, as in `put_in_order`.

    Args:
        owner: the CallbackList.
        first: runs before all.
        last: runs after all.
    """
    owner.callbacks = [first, *owner.callbacks, last]


def take_out(owner: Any, callbacks: Sequence[Any]) -> None:
    """From the next hook on, run a CallbackList without some callbacks.

    Args:
        owner: the CallbackList.
        callbacks: what is taken out; nothing happens where it is not in the list.
    """
    gone = {id(each) for each in callbacks}
    owner.callbacks = [each for each in owner.callbacks if id(each) not in gone]


def user_callbacks(callbacks: Sequence[Any]) -> List[Any]:
    """Return the callbacks that run code of neither Keras nor this package alone.

    Args:
        callbacks: of a `fit`.
    """
    known = FRAMEWORKS | {OURS}
    return [
        each
        for each in callbacks
        if named(each, "LambdaCallback") or package_of(type(each)) not in known
    ]


def order_around_phases(callback: Any) -> None:
    """Order the callbacks of the CallbackList that calls this one, which changes phases.

    Averages that are in the weights between epochs go out before a phase begins. A
    `LearningRateScheduler` has the last word in every epoch, in whatever order the user gave them.

    Args:
        callback: changes phases.
    """
    owner = callback_list(callback)
    if owner is None:
        return
    put_in_order(
        owner,
        callback,
        before=lambda each: named(each, "SwapEMAWeights"),
        after=lambda each: named(each, "LearningRateScheduler"),
    )


def early_stopping_restores(keras_major: int, callbacks: List[Any]) -> bool:
    """Return whether an `EarlyStopping` of this `fit` gives the model its best weights at the end.

    Keras 2 does so where it stopped the training, Keras 3 in any case.

    Args:
        keras_major: 2 or 3, of the Keras in use.
        callbacks: of the `fit`, at its end.
    """
    return any(
        named(each, "EarlyStopping")
        and bool(getattr(each, "restore_best_weights", False))
        and getattr(each, "best_weights", None) is not None
        and (keras_major > 2 or bool(getattr(each, "stopped_epoch", 0)))
        for each in callbacks
    )


def named(callback: Any, *names: str) -> bool:
    """Return whether the class of a callback, or a base of it, has one of these names."""
    return bool({cls.__name__ for cls in type(callback).__mro__} & set(names))


def _flat(callbacks: Any) -> List[Any]:
    if callbacks is None:
        return []
    if isinstance(callbacks, (list, tuple)):
        return [each for item in callbacks for each in _flat(item)]
    return [callbacks]
