"""Re-create an optimizer for other variables, with the state of those that go on training.

State variables are found by shape, not by name: every list attribute that contains one
variable (or None) per trained variable, which is how the optimizers of Keras 3 and the new
ones of Keras 2 keep momenta, velocities, averages and accumulated gradients.
"""

from __future__ import annotations

import contextlib
import copy
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from keras_bnguard.errors import ScheduleError

AVERAGES = "_model_variables_moving_average"
"""The averages of `use_ema`, under one name in every Keras."""

SIDE_BY_SIDE = "optimizer_specs"
"""The optimizers in a `MultiOptimizer` of TensorFlow Addons, each with the names of its weights."""

LOSS_SCALE = ("_current_loss_scale", "_counter")
"""Variables of the dynamic scale of a LossScaleOptimizer."""

_OWN = ("_iterations", "_learning_rate", "_current_learning_rate")
_EXCLUDED = (
    "_exclude_from_weight_decay",
    "_exclude_from_weight_decay_names",
    "_exclude_from_weight_decay_pattern",
)


def inner_optimizer(optimizer: Any) -> Any:
    """Return the optimizer that a LossScaleOptimizer wraps, or the optimizer itself."""
    return getattr(optimizer, "inner_optimizer", None) or optimizer


def fresh_optimizer(old: Any, learning_rate: Optional[Any] = None) -> Any:
    """An optimizer of the same class and settings that has not seen a variable.

    Args:
        old: the optimizer.
        learning_rate: a LearningRateSchedule or a float for the new one. Defaults to None: the
            schedule, or the present learning rate, bit for bit.

    Raises:
        ScheduleError: its class cannot be made from its own config, or it is a wrapper that
            takes no schedule.
    """
    try:
        new = _recreated(old, learning_rate)
    except ScheduleError:
        raise
    except Exception as error:
        name = type(getattr(old, "inner_optimizer", None) or old).__name__
        raise ScheduleError(
            f"a new {name} is needed for the weights that train now, and {name}.from_config("
            f"get_config()) failed: {type(error).__name__}: {error}. Let get_config return every "
            "argument that __init__ takes."
        ) from error
    # The arguments of `exclude_from_weight_decay` are in no config.
    for source, target in zip(_layers_of(old), _layers_of(new)):
        for name in _EXCLUDED:
            if name in vars(source):
                object.__setattr__(target, name, copy.copy(vars(source)[name]))
    return new


def _recreated(old: Any, learning_rate: Optional[Any]) -> Any:
    inner = getattr(old, "inner_optimizer", None)
    if inner is not None:
        # Not by its config: that finds the inner class by name, where a user's own is not.
        with _function_aside(inner):
            config = dict(old.get_config())
        del config["inner_optimizer"]
        return type(old)(_recreated(inner, learning_rate), **config)
    with _function_aside(old) as kept:
        config = dict(old.get_config())
    if SIDE_BY_SIDE in config:  # The optimizers themselves, not their configs.
        config[SIDE_BY_SIDE] = [
            {**spec, "optimizer": _recreated(spec["optimizer"], None)}
            for spec in config[SIDE_BY_SIDE]
        ]
    if learning_rate is not None and "learning_rate" not in config:
        raise ScheduleError(
            f"cannot give {type(old).__name__} a LearningRateSchedule: the learning rate belongs "
            "to the optimizer inside. Use a float, or wrap an optimizer that was made with a "
            "schedule."
        )
    learning_rate = kept if learning_rate is None else learning_rate
    if learning_rate is not None and "learning_rate" in config:
        config["learning_rate"] = learning_rate
    return type(old).from_config(config)


def learning_rate_function(optimizer: Any) -> Optional[Any]:
    """The LearningRateSchedule or plain function that gives an optimizer its learning rate,
    None where the learning rate is a number."""
    wrapped = vars(optimizer).get("_optimizer")  # TensorFlow Addons, around a legacy optimizer
    if wrapped is not None and hasattr(optimizer, "_hyper"):
        return learning_rate_function(wrapped)
    kept = _learning_rate_home(optimizer)[0].get(_learning_rate_home(optimizer)[1])
    return kept if callable(kept) and not hasattr(kept, "assign") else None


def _learning_rate_home(optimizer: Any) -> Tuple[Dict[str, Any], str]:
    """The dict in which an optimizer keeps its learning rate, and under which name."""
    legacy = getattr(optimizer, "_hyper", None)
    return (vars(optimizer), "_learning_rate") if legacy is None else (legacy, "learning_rate")


def delayed(schedule: Any, steps: int) -> Any:
    """The same LearningRateSchedule, begun so many optimizer steps later.

    To Keras, which asks for `__class__` and config, it is the one it comes from: a model that is
    saved with it loads without this package, with the schedule as its author made it.
    """
    if not steps:
        return schedule
    cls = type(schedule)

    def call(self: Any, step: Any) -> Any:
        return cls.__call__(self, step - steps)

    made = copy.copy(schedule)
    posing = {"__call__": call, "__class__": property(lambda self: cls)}
    made.__class__ = type(cls.__name__, (cls,), {**posing, "__module__": cls.__module__})
    return made


class _StandIn(float):
    """A number that can be called: `get_config` of Keras 3.3 to 3.6 takes no other number."""

    def __call__(self) -> float:
        return float(self)


@contextlib.contextmanager
def _function_aside(optimizer: Any) -> Iterator[Optional[Any]]:
    """While `get_config` runs: a user's own schedule may have no config, or no known name."""
    kept = learning_rate_function(optimizer)
    home, name = _learning_rate_home(optimizer)
    if kept is None or home.get(name) is not kept:
        yield None
        return
    home[name] = _StandIn(0.5)
    try:
        yield kept
    finally:
        home[name] = kept


def update_saved_config(model: Any) -> None:
    """Write the optimizer of now to the config that is saved, where Keras keeps what `compile`
    was given, such as "adam", whose learning rate is another."""
    kept = getattr(getattr(model, "_compile_config", None), "config", None)
    if not isinstance(kept, dict) or kept.get("optimizer") is None:
        return
    optimizer = model.optimizer
    try:
        optimizer.get_config()
    except NotImplementedError:  # A user's schedule that has no config: saved as a number.
        function = learning_rate_function(_layers_of(optimizer)[-1])
        now = function(optimizer.iterations) if function is not None else 0.0
        optimizer = fresh_optimizer(optimizer, float(now))
    kept["optimizer"] = optimizer


def _layers_of(optimizer: Any) -> List[Any]:
    inner = getattr(optimizer, "inner_optimizer", None)
    return [optimizer] if inner is None else [optimizer, inner]


def strategy_scope(model: Any) -> Any:
    """Context manager: variables made inside belong to the model's distribution strategy."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def trained_variables(optimizer: Any) -> Optional[List[Any]]:
    """The variables an optimizer was built for, in the order of its state; None before that."""
    known = getattr(optimizer, "_trainable_variables", None)
    return list(known) if known else None


def state_lists(optimizer: Any, variables: Sequence[Any]) -> Dict[str, List[Any]]:
    """Attribute name -> one state variable (or None) per trained variable."""
    found = {}
    for name, value in vars(optimizer).items():
        if name in ("_trainable_variables", "_variables") or not isinstance(value, (list, tuple)):
            continue
        if len(value) != len(variables) or not len(value):
            continue
        if all(_fits(state, variable) for state, variable in zip(value, variables)) and any(
            state is not None for state in value
        ):
            found[name] = list(value)
    return found


def _fits(state: Any, variable: Any) -> bool:
    if state is None:
        return True
    return hasattr(state, "assign") and state is not variable and hasattr(state, "shape")


def carry_state(
    old: Any, old_variables: Sequence[Any], new: Any, new_variables: Sequence[Any]
) -> Tuple[int, int]:
    """Copy the state of the variables both optimizers train, and what they keep besides.

    Returns:
        (variables carried, variables whose state is new).
    """
    place = {id(v): i for i, v in enumerate(old_variables)}
    old_state, new_state = state_lists(old, old_variables), state_lists(new, new_variables)
    carried = 0
    for j, variable in enumerate(new_variables):
        i = place.get(id(variable))
        if i is None:
            # An average that began at zero would pull the weight there: Keras begins it at
            # the weight in the optimizer's very first step only.
            if new_state.get(AVERAGES, [None] * (j + 1))[j] is not None:
                new_state[AVERAGES][j].assign(_copy(variable))
            continue
        carried += 1
        for name, states in new_state.items():
            source = old_state.get(name)
            if source is None or source[i] is None or states[j] is None:
                continue
            states[j].assign(_copy(source[i]))
    if old_variables:
        _carry_scalars(old, new)
    return carried, len(new_variables) - carried


def _copy(variable: Any) -> Any:
    """The value, bit for bit, in memory of its own: JAX gives a step the memory of its
    variables to write to, and two that share it cannot both be given away."""
    return variable * 1


def _carry_scalars(old: Any, new: Any) -> None:
    """What belongs to the optimizer as a whole, such as Nadam's product of decay factors, and in
    Keras 2 a number in Python with it."""
    for name, target in list(vars(new).items()):
        source = vars(old).get(name)
        if type(target) is int is type(source):
            setattr(new, name, source)
        both = hasattr(target, "assign") and hasattr(source, "assign")
        if both and name not in _OWN and tuple(target.shape) == () == tuple(source.shape):
            target.assign(_copy(source))


def carry_loss_scale(old: Any, new: Any) -> None:
    """The dynamic scale of a LossScaleOptimizer and its counter, where there is one."""
    before, after = getattr(old, "_loss_scale", None), getattr(new, "_loss_scale", None)
    for name in LOSS_SCALE:
        source, target = getattr(before, name, None), getattr(after, name, None)
        if source is not None and target is not None:
            target.assign(source)
