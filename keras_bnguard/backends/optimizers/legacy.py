"""Rebuild `keras.optimizers.legacy` optimizers, and those of TensorFlow Addons, as the same object.

They take in a variable when they first meet it, and files list their state in that order. So the
state variables of a phase are created once more, in the order of a new optimizer that meets what
trains now, and get their values back. Then a file of any phase loads like one of an optimizer
that never knew another phase.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from keras_bnguard.backends.optimizers.in_place import (
    drop_compiled_methods,
    is_variable,
    keep_settings,
    marks,
    wrapped_chain,
)
from keras_bnguard.backends.optimizers.learning_rates import innermost, legacy_key
from keras_bnguard.backends.optimizers.renewal import (
    SIDE_BY_SIDE,
    carry_loss_scale,
    fresh_optimizer,
    inner_optimizer,
)


def is_legacy(optimizer: Any) -> bool:
    """Whether an optimizer is one of `keras.optimizers.legacy`, or of TensorFlow Addons on it."""
    return not hasattr(inner_optimizer(optimizer), "_build_index_dict")


def renew_legacy(
    optimizer: Any, variables: Sequence[Any], carry: bool, learning_rate: Optional[Any]
) -> Tuple[int, int]:
    """Rebuild a legacy optimizer.

    Args:
        optimizer: the one given to `compile`.
        variables: those that train now.
        carry: keep the state of variables that go on training; otherwise all starts again.
        learning_rate: a LearningRateSchedule or a float; None for the one it has.

    Returns:
        (variables carried, variables whose state is new).

    Raises:
        ScheduleError: it starts again, and cannot be made from its own config.
    """
    fresh = None if carry else _built(fresh_optimizer(optimizer), variables)
    if learning_rate is not None:
        _give_learning_rate(innermost(optimizer), learning_rate)
    state = _State(optimizer)
    state.create_again(variables)
    if fresh is None:
        new = state.put_back(variables)
        return len(variables) - new, new
    _copy_counts(fresh, optimizer)
    _copy_single_variables(fresh, optimizer)
    carry_loss_scale(fresh, optimizer)
    return 0, len(variables)


def legacy_stand_in(optimizer: Any, variables: Sequence[Any]) -> Any:
    """Another optimizer with the settings and the state of a legacy one, which stays as it is.

    Args:
        optimizer: the one given to `compile`.
        variables: those that train now.

    Raises:
        ScheduleError: it cannot be made from its own config.
    """
    new = fresh_optimizer(optimizer)
    before = [marks(part) for part in _parts(new)]
    _built(new, variables)
    keep_settings(_parts(optimizer), _parts(new), before)
    _State(optimizer).give_to(new)
    _copy_counts(optimizer, new)
    _copy_single_variables(optimizer, new)
    carry_loss_scale(optimizer, new)
    return new


def knows_exactly_legacy(optimizer: Any, variables: Sequence[Any]) -> bool:
    """Return whether a legacy optimizer has state for just these variables, or none at all."""
    known = {key for part in _parts(optimizer) for key in part._slots}
    return not known or known == {legacy_key(variable) for variable in variables}


def legacy_variables(optimizer: Any, variables: Sequence[Any]) -> List[Any]:
    """Return the variables of a legacy optimizer, in an order that no phase before changed.

    Args:
        optimizer: the outermost one.
        variables: those that train now, whose state comes in their order.
    """
    found: List[Any] = []
    for part in _parts(optimizer):
        keys = [legacy_key(variable) for variable in variables]
        keys = [key for key in keys if key in part._slots]
        keys += [key for key in part._slots if key not in keys]
        states = [part._slots[key][name] for key in keys for name in sorted(part._slots[key])]
        ids = {id(state) for state in states}
        found += [w for w in part._weights if id(w) not in ids] + states
    return found


class _State:
    """The state variables of a legacy optimizer and of those inside it, by trained variable.

    Args:
        optimizer: the outermost one.
    """

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self._parts = _parts(optimizer)
        self._states = [dict(part._slots) for part in self._parts]
        self._listed = [list(part._weights) for part in self._parts]

    def create_again(self, variables: Sequence[Any]) -> None:
        """Have Keras create state variables in the order in which it does after `compile`."""
        tails = []
        for part, states, listed in zip(self._parts, self._states, self._listed):
            ids = {id(each) for by_name in states.values() for each in by_name.values()}
            first = next((i for i, w in enumerate(listed) if id(w) in ids), len(listed))
            part._slots, part._weights = {}, listed[:first]
            drop_compiled_methods(part)
            tails.append([w for w in listed[first:] if id(w) not in ids])
        try:
            _built(self._optimizer, variables)
        except BaseException:
            for part, states, listed in zip(self._parts, self._states, self._listed):
                part._slots, part._weights = states, listed
            raise
        for part, tail in zip(self._parts, tails):
            part._weights.extend(tail)

    def put_back(self, variables: Sequence[Any]) -> int:
        """Give the new state variables the old values; return how many variables had none."""
        unknown = self.give_to(self._optimizer)
        if hasattr(self._optimizer, "assign_average_vars"):
            for variable in variables:
                if legacy_key(variable) in unknown:
                    # `SWA` begins averages at zero, and counts the snapshots taken before as
                    # theirs.
                    self._optimizer.get_slot(variable, "average").assign(variable)
        return len(unknown)

    def give_to(self, optimizer: Any) -> Set[Any]:
        """Copy the values to another optimizer of the same class.

        Returns:
            The keys of variables that had no state.
        """
        unknown: Set[Any] = set()
        for part, states in zip(_parts(optimizer), self._states):
            for key, by_name in part._slots.items():
                if key not in states:
                    unknown.add(key)
                for name, target in by_name.items():
                    if name in states.get(key, {}):
                        target.assign(states[key][name])
        return unknown


def _parts(optimizer: Any) -> List[Any]:
    """The optimizer and those inside it, as far as they have state variables of their own."""
    found = []
    for part in wrapped_chain(optimizer):
        found += [part] if "_slots" in vars(part) else []
        for spec in getattr(part, SIDE_BY_SIDE, ()):
            found += _parts(spec["optimizer"])
    return found


def _built(optimizer: Any, variables: Sequence[Any]) -> Any:
    if variables:
        optimizer._create_all_weights(list(variables))
    for spec in getattr(optimizer, SIDE_BY_SIDE, ()):
        names = set(spec["weights"])
        _built(spec["optimizer"], [v for v in variables if v.name in names])
    return optimizer


def _copy_counts(source: Any, target: Any) -> None:
    """The counts of steps; one inside another optimizer may share its count, or have none yet."""
    for one, other in zip(_parts(source), _parts(target)):
        if one._iterations is not None and other._iterations is not None:
            other._iterations.assign(one._iterations)


def _copy_single_variables(source: Any, target: Any) -> None:
    """What belongs to an optimizer as a whole, such as the product of Nadam."""
    for one, other in zip(_parts(source), _parts(target)):
        for name, variable in _single_variables(one).items():
            kept = vars(other).get(name)
            if is_variable(kept) and kept is not variable and kept.shape == variable.shape:
                kept.assign(variable)


def _single_variables(part: Any) -> Dict[str, Any]:
    return {name: v for name, v in vars(part).items() if name != "_iterations" and is_variable(v)}


def _give_learning_rate(optimizer: Any, learning_rate: Any) -> None:
    """Another schedule, or a float where a schedule was; that becomes a variable again."""
    optimizer.learning_rate = learning_rate
    if not callable(learning_rate):
        optimizer._hypers_created = False
        optimizer._create_hypers()
