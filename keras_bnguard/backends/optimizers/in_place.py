"""Rebuild an optimizer for other variables as the same object.

A new optimizer of the class and settings of the old one is built, and the old one takes its
state over. `build` makes state and `__init__` makes settings: attributes that `build` changed
go over, all others stay as the user or a library left them, also those that no config contains.
Scalars that `__init__` makes, such as the count of steps and the learning rate, stay the same
variables, so who refers to one of them goes on reading and setting it.
"""

from __future__ import annotations

import inspect
from typing import Any, Dict, List, Optional, Sequence, Tuple

from keras_bnguard.backends.optimizers.learning_rates import factor_methods
from keras_bnguard.backends.optimizers.renewal import fresh_optimizer

_BOOKKEEPING = (
    "_variables",
    "_tracker",
    "_trainable_variables",
    "_trainable_variables_indices",
    "_index_dict",
)
"""What lists state: always that of the new one, also where it lists nothing."""

_TRACKED = ("_self_unconditional_checkpoint_dependencies", "_self_unconditional_dependency_names")
"""What TensorFlow saves with an object: entries refer to variables and inner optimizers."""

_CHILDREN = "_coalesced_children"
"""What tf_keras found to save with an object, kept from its first checkpoint on."""

_LEARNING_RATE = ("_learning_rate", "_current_learning_rate")
"""A number may give way to a schedule, and the other way round. A number that stays one is the same
variable in both optimizers."""

Marks = Dict[str, Tuple[int, ...]]


def wrapped_chain(optimizer: Any) -> List[Any]:
    """The optimizer and those inside it: loss scaling, Lookahead, averages; the outermost first."""
    found = [optimizer]
    while True:
        last = found[-1]
        inner = getattr(last, "inner_optimizer", None) or vars(last).get("_optimizer")
        if inner is None:
            return found
        found.append(inner)


class Successor:
    """A new optimizer whose state the old one takes over.

    Args:
        old: the optimizer.
        learning_rate: a LearningRateSchedule or a float. Defaults to None: as it is.

    Attributes:
        optimizer: the new one, which the caller builds between `__init__` and `hand_over`.

    Raises:
        ScheduleError: it cannot be made from the config of the old one.
    """

    def __init__(self, old: Any, learning_rate: Optional[Any] = None) -> None:
        self.optimizer = fresh_optimizer(old, learning_rate)
        self._pairs = list(zip(wrapped_chain(old), wrapped_chain(self.optimizer)))
        self._shared = [pair for one, other in self._pairs for pair in _share(one, other)]
        self._before = [marks(new) for _, new in self._pairs]

    def hand_over(self, reset: bool) -> None:
        """Move the state of the new optimizer into the old one.

        Args:
            reset: also what `__init__` made starts again.
        """
        inside = {id(new): old for old, new in self._pairs}
        for (old, new), before in zip(self._pairs, self._before):
            _keep_variables_of_user(old, new)
            for name in _state_names(new, before, reset):
                vars(old)[name] = _redirected(name, vars(new)[name], inside)
            drop_compiled_methods(old)
            vars(old).pop(_CHILDREN, None)
        for name, kept, made in self._shared:
            if reset or name == "_learning_rate":
                kept.assign(made * 1)


def _share(old: Any, new: Any) -> List[Tuple[str, Any, Any]]:
    """Give a new optimizer the scalar variables of the old one.

    Returns:
        (attribute, variable of the old one, variable that the new one had).
    """
    shared = []
    for name, made in list(vars(new).items()):
        kept = vars(old).get(name)
        if _is_scalar(made) and _is_scalar(kept) and made.dtype == kept.dtype:
            shared.append((name, kept, made))
    listed = list(getattr(new, "_variables", ()))
    for name, kept, _ in shared:
        setattr(new, name, kept)
    places = {id(made): kept for _, kept, made in shared}
    listed = [places.get(id(variable), variable) for variable in listed]
    if shared:
        _set_variables(new, listed)
    return shared


def _set_variables(optimizer: Any, listed: List[Any]) -> None:
    """Replace the list of variables, also where Keras 3 adds the next one and TensorFlow saves."""
    tracker = getattr(optimizer, "_tracker", None)
    if tracker is None:
        optimizer._variables = listed
        return
    made = type(optimizer._variables)(listed)
    vars(optimizer)["_variables"] = made
    wanted, _ = tracker.config["variables"]
    tracker.config["variables"] = (wanted, made)
    if hasattr(optimizer, "_track_trackable"):
        optimizer._track_trackable(made, name="_variables", overwrite=True)


def _is_scalar(value: Any) -> bool:
    return is_variable(value) and tuple(value.shape) == ()


def is_variable(value: Any) -> bool:
    """Return whether a value is a variable; optimizers of Keras 3 have an `assign` too."""
    return hasattr(value, "assign") and hasattr(value, "shape")


def marks(optimizer: Any) -> Marks:
    """Return a mark of each attribute of an optimizer, which differs once `build` changed it."""
    return {name: mark(value) for name, value in vars(optimizer).items()}


def mark(value: Any) -> Tuple[int, ...]:
    """Differs between two objects, and between one container before and after a change."""
    if isinstance(value, dict):
        return (id(value), *(id(each) for each in value.values()))
    if isinstance(value, (list, tuple, set)):
        return (id(value), *(id(each) for each in value))
    return (id(value),)


def keep_settings(old: Sequence[Any], new: Sequence[Any], before: Sequence[Marks]) -> None:
    """Give other optimizers the settings that no config has, as `gradient_transformers`.

    Args:
        old: optimizers; they stay as they are.
        new: others of the same classes, built.
        before: the `marks` of each from before that.
    """
    for source, target, mark_of in zip(old, new, before):
        ours = factor_methods(source)
        for name, value in vars(source).items():
            made = name in vars(target) and mark_of.get(name) != mark(vars(target)[name])
            if not made and name not in ours and name not in _TRACKED:
                if type(value) in (list, tuple) and all(map(_is_setting, value)):
                    vars(target)[name] = type(value)(value)
                elif _is_setting(value):
                    vars(target)[name] = value


def _is_setting(value: Any) -> bool:
    plain = value is None or isinstance(value, (bool, int, float, str))
    return plain or inspect.isfunction(value)


def _state_names(new: Any, before: Marks, reset: bool) -> List[str]:
    """The attributes that `build` made or changed; with `reset` also all with variables in them."""
    return [
        name
        for name, value in vars(new).items()
        if name in _BOOKKEEPING
        or name in _TRACKED
        or name in _LEARNING_RATE
        or before.get(name) != mark(value)
        or (reset and _holds_variables(value))
    ]


def _holds_variables(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    elements = value if isinstance(value, (list, tuple)) else [value]
    return any(is_variable(each) for each in elements)


def _keep_variables_of_user(old: Any, new: Any) -> None:
    """Variables that somebody set on the old one as attributes stay among its variables."""
    for name, value in list(vars(old).items()):
        if name not in vars(new) and is_variable(value):
            setattr(new, name, value)


def _redirected(name: str, value: Any, inside: Dict[int, Any]) -> Any:
    """TensorFlow's references to the new inner optimizers, now to the old ones."""
    if name not in _TRACKED:
        return value
    if isinstance(value, dict):
        return {key: inside.get(id(each), each) for key, each in value.items()}
    return [type(each)(each.name, inside.get(id(each.ref), each.ref)) for each in value]


def drop_compiled_methods(optimizer: Any) -> None:
    """Have TensorFlow compile the methods of one optimizer again, as they refer to its state: the
    update of a variable with XLA in Keras 2, `average_op` of `SWA`."""
    for cls in type(optimizer).__mro__:
        for value in vars(cls).values():
            compiled = getattr(value, "_descriptor_cache", None)
            if compiled is not None:
                compiled.pop(optimizer, None)
