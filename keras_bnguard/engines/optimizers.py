"""Make a new optimizer for other variables, carrying the slots of those that go on training.

Slots are found by shape, not by name: every list attribute of an optimizer that holds one
variable (or None) per trained variable, which is how the optimizers of Keras 3 and the new
ones of Keras 2 keep momenta, velocities, averages and accumulated gradients.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from keras_bnguard.errors import ScheduleError


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
    return type(old).from_config(config)


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
    """Copy slots of the variables both optimizers know.

    Returns:
        (variables carried, variables that start with fresh slots).
    """
    place = {id(v): i for i, v in enumerate(old_variables)}
    old_slots, new_slots = slot_lists(old, old_variables), slot_lists(new, new_variables)
    carried = 0
    for j, variable in enumerate(new_variables):
        i = place.get(id(variable))
        if i is None:
            continue
        carried += 1
        for name, slots in new_slots.items():
            source = old_slots.get(name)
            if source is None or source[i] is None or slots[j] is None:
                continue
            slots[j].assign(source[i])
    return carried, len(new_variables) - carried
