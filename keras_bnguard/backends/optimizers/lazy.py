"""What an optimizer keeps, read without making anything in it.

A legacy optimizer of Keras 2 makes variables when `iterations`, `learning_rate` or another of its
numbers is read before its first step: under other names than in a step, as other kinds of
variables, and in the graph and on the device of whoever reads.
"""

from __future__ import annotations

from typing import Any


def step_counter(optimizer: Any) -> Any:
    """Return the variable that counts every step, None where it is not made yet.

    With `gradient_accumulation_steps` of Keras 3, `iterations` is another thing: a tensor, the
    number of times the weights were updated.

    Args:
        optimizer: an optimizer, not a LossScaleOptimizer.
    """
    home = vars(optimizer)
    kept = home.get("_iterations")
    if kept is not None:
        return kept
    if "_hyper" not in home:
        return optimizer.iterations
    wrapped = home.get("_optimizer")  # TensorFlow Addons
    return None if wrapped is None else step_counter(wrapped)


def kept_learning_rate(optimizer: Any) -> Any:
    """Return the learning rate as an optimizer keeps it, None where it has none.

    Args:
        optimizer: an optimizer, not a LossScaleOptimizer. A legacy one gives the number or
            schedule that it was made with until its first step.
    """
    home = vars(optimizer)
    if "_hyper" not in home:
        return getattr(optimizer, "learning_rate", None)
    if home.get("_optimizer") is not None:  # TensorFlow Addons
        return kept_learning_rate(home["_optimizer"])
    if not home.get("_hypers_created"):
        return home["_hyper"].get("learning_rate")
    return getattr(optimizer, "learning_rate", None)
