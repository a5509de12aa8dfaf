"""Make a new optimizer for other variables, carrying the slots of those that go on training.

Slots are found by shape, not by name: every list attribute of an optimizer that holds one
variable (or None) per trained variable, which is how the optimizers of Keras 3 and the new
ones of Keras 2 keep momenta, velocities, averages and accumulated gradients.
"""

from __future__ import annotations

import contextlib
import copy
from typing import Any, Dict, List, Optional, Sequence, Tuple

from keras_bnguard.errors import ScheduleError

AVERAGES = "_model_variables_moving_average"
"""The slots of `use_ema`, under one name in every Keras."""

_OWN = ("_iterations", "_learning_rate", "_current_learning_rate")
_EXCLUDED = (
    "_exclude_from_weight_decay",
    "_exclude_from_weight_decay_names",
    "_exclude_from_weight_decay_pattern",
)


def fresh_optimizer(old: Any, schedule: Optional[Any] = None) -> Any:
    """An optimizer of the same class and settings that has not seen a variable.

    Args:
        old: the optimizer. schedule: a LearningRateSchedule for the new one, None keeps the
            present rate, bit for bit.

    Raises:
        ScheduleError: a schedule is to go into a LossScaleOptimizer, which keeps its rate inside.
    """
    config = dict(old.get_config())
    if schedule is not None:
        if "learning_rate" not in config:
            raise ScheduleError(
                f"cannot give {type(old).__name__} a LearningRateSchedule, its rate belongs to the "
                "optimizer inside. Use a float, or wrap an optimizer that was made with a schedule."
            )
        config["learning_rate"] = schedule
    new = type(old).from_config(config)
    # What `exclude_from_weight_decay` was told is in no config.
    for source, target in zip(_layers_of(old), _layers_of(new)):
        for name in _EXCLUDED:
            if name in vars(source):
                object.__setattr__(target, name, copy.copy(vars(source)[name]))
    return new


def _layers_of(optimizer: Any) -> List[Any]:
    inner = getattr(optimizer, "inner_optimizer", None)
    return [optimizer] if inner is None else [optimizer, inner]


def strategy_scope(model: Any) -> Any:
    """Context manager: variables made inside belong to the model's distribution strategy."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def trained_variables(optimizer: Any) -> Optional[List[Any]]:
    """The variables an optimizer was built for, in slot order; None while it is not built."""
    known = getattr(optimizer, "_trainable_variables", None)
    return list(known) if known else None


def slot_lists(optimizer: Any, variables: Sequence[Any]) -> Dict[str, List[Any]]:
    """Attribute name -> one slot variable (or None) per trained variable."""
    found = {}
    for name, value in vars(optimizer).items():
        if name in ("_trainable_variables", "_variables") or not isinstance(value, (list, tuple)):
            continue
        if len(value) != len(variables) or not len(value):
            continue
        if all(_fits(slot, variable) for slot, variable in zip(value, variables)) and any(
            slot is not None for slot in value
        ):
            found[name] = list(value)
    return found


def _fits(slot: Any, variable: Any) -> bool:
    if slot is None:
        return True
    return hasattr(slot, "assign") and slot is not variable and hasattr(slot, "shape")


def carry_slots(
    old: Any, old_variables: Sequence[Any], new: Any, new_variables: Sequence[Any]
) -> Tuple[int, int]:
    """Copy slots of the variables both optimizers know, and what they keep besides.

    Returns:
        (variables carried, variables that start with fresh slots).
    """
    place = {id(v): i for i, v in enumerate(old_variables)}
    old_slots, new_slots = slot_lists(old, old_variables), slot_lists(new, new_variables)
    carried = 0
    for j, variable in enumerate(new_variables):
        i = place.get(id(variable))
        if i is None:
            # An average that began at zero would pull the weight there: Keras begins it at
            # the weight in the optimizer's very first step only.
            if new_slots.get(AVERAGES, [None] * (j + 1))[j] is not None:
                new_slots[AVERAGES][j].assign(_copy(variable))
            continue
        carried += 1
        for name, slots in new_slots.items():
            source = old_slots.get(name)
            if source is None or source[i] is None or slots[j] is None:
                continue
            slots[j].assign(_copy(source[i]))
    if old_variables:
        _carry_scalars(old, new)
    return carried, len(new_variables) - carried


def _copy(variable: Any) -> Any:
    """The value, bit for bit, in memory of its own: JAX gives a step the memory of its
    variables to write to, and two that share it cannot both be given away."""
    return variable * 1


def _carry_scalars(old: Any, new: Any) -> None:
    """What belongs to the optimizer as a whole, such as Nadam's product of decay factors."""
    for name, target in vars(new).items():
        source = vars(old).get(name)
        both = hasattr(target, "assign") and hasattr(source, "assign")
        if both and name not in _OWN and tuple(target.shape) == () == tuple(source.shape):
            target.assign(_copy(source))
