"""Rebuild the optimizers of Keras 2: those of 2.11 on, and `keras.optimizers.legacy`."""

from __future__ import annotations

from typing import Any, List, Tuple

from keras_bnguard.backends.optimizers.in_place import Successor
from keras_bnguard.backends.optimizers.learning_rates import innermost
from keras_bnguard.backends.optimizers.renewal import (
    carry_state,
    fresh_optimizer,
    inner_optimizer,
)

LOSS_SCALE = ("_current_loss_scale", "_counter")
"""Variables of the dynamic scale of a LossScaleOptimizer."""


def build_state(model: Any, new: Any, carry: bool) -> Tuple[int, int]:
    """Build another optimizer for what trains now.

    Args:
        model: a compiled model.
        new: the optimizer, not built.
        carry: also take over the state of the model's own.

    Returns:
        As `renew` of the optimizer interface.
    """
    old = model.optimizer
    inner, new_inner = inner_optimizer(old), inner_optimizer(new)
    variables = list(model.trainable_variables)
    known = getattr(inner, "_index_dict", None) or {}
    place = {inner._var_key(v): v for v in model.variables} if known else {}
    old_variables = [place.get(key, key) for key in known]
    new_inner.build(variables)
    carried = 0
    if carry:
        carried, _ = carry_state(inner, old_variables, new_inner, variables)
        new_inner.iterations.assign(inner.iterations)
        carry_loss_scale(old, new)
    return carried, len(variables) - carried


def is_legacy(optimizer: Any) -> bool:
    """Whether an optimizer is one of `keras.optimizers.legacy`, or of TensorFlow Addons on it."""
    return not hasattr(inner_optimizer(optimizer), "_build_index_dict")


def renew_new(model: Any, carry: bool, schedule: Any) -> Tuple[int, int]:
    """Rebuild an optimizer of Keras 2.11 and later; see `renew` of the optimizer interface."""
    old = model.optimizer
    successor = Successor(old, schedule)
    counts = build_state(model, successor.optimizer, carry)
    if carry:
        successor.hand_over(reset=False)
    else:
        fresh = fresh_optimizer(old)
        successor.hand_over(reset=True)
        carry_loss_scale(fresh, old)
    return counts


def renew_legacy(model: Any, carry: bool, schedule: Any) -> Tuple[int, int]:
    """Optimizers of `keras.optimizers.legacy` take in variables whenever they meet them."""
    old, variables = model.optimizer, list(model.trainable_variables)
    if carry:
        if schedule is not None:
            _give_legacy(innermost(old), schedule)
        unknown = _without_average(old, variables)
        old._create_all_weights(variables)
        for variable in unknown:
            # `SWA` begins averages at zero, and counts the snapshots taken before as theirs.
            old.get_slot(variable, "average").assign(variable)
        return len(variables), 0
    successor = Successor(old, schedule)
    successor.optimizer._create_all_weights(variables)
    successor.hand_over(reset=True)
    return 0, len(variables)


def _give_legacy(optimizer: Any, learning_rate: Any) -> None:
    """Another schedule, or a float where a schedule was; that becomes a variable again."""
    optimizer.learning_rate = learning_rate
    if not callable(learning_rate):
        optimizer._hypers_created = False
        optimizer._create_hypers()


def _without_average(optimizer: Any, variables: List[Any]) -> List[Any]:
    """The variables that a TensorFlow Addons optimizer keeps no average of yet."""
    if not hasattr(optimizer, "assign_average_vars"):
        return []
    found = []
    for variable in variables:
        try:
            optimizer.get_slot(variable, "average")
        except KeyError:
            found.append(variable)
    return found


def carry_loss_scale(old: Any, new: Any) -> None:
    """The dynamic scale of a LossScaleOptimizer and its counter, where there is one."""
    before, after = getattr(old, "_loss_scale", None), getattr(new, "_loss_scale", None)
    for name in LOSS_SCALE:
        source, target = getattr(before, name, None), getattr(after, name, None)
        if source is not None and target is not None:
            target.assign(source)
