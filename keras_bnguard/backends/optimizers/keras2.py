"""Rebuild the optimizers of Keras 2.11 and later."""

from __future__ import annotations

from typing import Any, Tuple

from keras_bnguard.backends.optimizers.in_place import Successor
from keras_bnguard.backends.optimizers.renewal import (
    carry_loss_scale,
    carry_state,
    fresh_optimizer,
    inner_optimizer,
)


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


def renew_new(model: Any, carry: bool, schedule: Any) -> Tuple[int, int]:
    """Rebuild an optimizer of Keras 2.11 and later; see `renew` of the optimizer interface."""
    old = model.optimizer
    known = bool(getattr(inner_optimizer(old), "_index_dict", None))
    successor = Successor(old, schedule)
    counts = build_state(model, successor.optimizer, carry)
    if not (carry and known) and not model.run_eagerly:
        _count_trace_of_build(inner_optimizer(successor.optimizer), sum(counts))
    if carry:
        successor.hand_over(reset=False)
    else:
        fresh = fresh_optimizer(old)
        successor.hand_over(reset=True)
        carry_loss_scale(fresh, old)
    return counts


def _count_trace_of_build(optimizer: Any, variables: int) -> None:
    """Nadam counts in Python how often the update of a variable was traced, and its updates
    depend on that. After `compile`, Keras traces the first step twice, because the optimizer is
    built in it. Here it is built before: the first of these traces is added.
    """
    if hasattr(optimizer, "_u_product_counter"):
        optimizer._u_product_counter += variables
