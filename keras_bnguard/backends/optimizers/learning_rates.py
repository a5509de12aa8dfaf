"""A learning rate per variable: that of the optimizer times a factor.

The learning rate of each update is scaled, not the gradient, on which Adam does not depend, and
not the finished update, which Ftrl and averages compute from sums of their own. So one step is
the step of an optimizer that was made with `learning_rate * factor`. Weight decay that Keras
multiplies by the learning rate is scaled with it.

The wrappers are attributes of one optimizer object, past its own `__setattr__`: no file, copy
or config of it holds any of them.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

Factors = Sequence[Tuple[Any, float]]
"""(variable, factor) pairs."""

_DECAYS = ("weight_decay", "adam_weight_decay")


def innermost(optimizer: Any) -> Any:
    """The optimizer that makes the updates, inside loss scaling, Lookahead and averages."""
    while True:
        inner = getattr(optimizer, "inner_optimizer", None) or vars(optimizer).get("_optimizer")
        if inner is None:
            return optimizer
        optimizer = inner


def put_factors(optimizer: Any, factors: Factors) -> None:
    """Multiply the learning rate of each of these variables by its factor; others keep it.

    Factors that were put before go. An empty list, or one of nothing but 1.0, leaves the
    optimizer as Keras made it.
    """
    optimizer = innermost(optimizer)
    take_factors(optimizer)
    if any(factor != 1.0 for _, factor in factors):
        _Wrapped(optimizer, factors).put()


def take_factors(optimizer: Any) -> bool:
    """Give an optimizer its own methods back; whether it had others."""
    there = _of(optimizer)
    if there is not None:
        there.take_off()
    return there is not None


def move_factors(old: Any, new: Any) -> None:
    """Put the factors of one optimizer on another for the same model."""
    there = _of(old)
    if there is not None:
        put_factors(new, there.factors)


def factor_methods(optimizer: Any) -> Sequence[str]:
    """The attributes that factors put on an optimizer, the innermost one; empty without any."""
    there: Optional[_Wrapped] = vars(optimizer).get("_bng_rates")
    return () if there is None else there.names


def legacy_key(variable: Any) -> str:
    """The key of a variable in a legacy optimizer of Keras 2: a replica's part goes by the whole
    variable."""
    for part in (variable, getattr(variable, "handle", None)):
        whole = getattr(part, "_distributed_container", None)
        if whole is not None:
            return str(whole()._unique_id)
    return str(variable._unique_id)


def _of(optimizer: Any) -> Optional[_Wrapped]:
    found: Optional[_Wrapped] = vars(innermost(optimizer)).get("_bng_rates")
    return found


class _Wrapped:
    """The wrappers around the methods of one optimizer."""

    def __init__(self, optimizer: Any, factors: Factors) -> None:
        self.optimizer, self.factors = optimizer, list(factors)
        self._by_key = {self._key(v): float(factor) for v, factor in factors}
        self._decays: Optional[Dict[str, Any]] = None

    def _key(self, variable: Any) -> Any:
        own = getattr(self.optimizer, "_var_key", None)
        if own is not None:
            return own(variable)
        return legacy_key(variable)

    def factor(self, variable: Any) -> float:
        return self._by_key.get(self._key(variable), 1.0)

    def put(self) -> None:
        optimizer = self.optimizer
        if hasattr(optimizer, "_resource_apply_dense"):
            made = _legacy(self)
        elif hasattr(optimizer, "_build_index_dict"):
            made = {"update_step": _keras2_step(self), "_apply_weight_decay": _decay(self)}
        else:
            made = {"update_step": _keras3_step(self), "_apply_weight_decay": _decay(self)}
            if hasattr(optimizer, "_parallel_update_step"):
                made["_parallel_update_step"] = _parallel_step(self)
        for name, value in made.items():
            object.__setattr__(optimizer, name, value)
        object.__setattr__(optimizer, "_bng_rates", self)
        self.names = [*made, "_bng_rates"]

    def take_off(self) -> None:
        for name in self.names:
            if name in vars(self.optimizer):
                object.__delattr__(self.optimizer, name)

    def groups(self, variables: Sequence[Any]) -> List[Tuple[float, List[int]]]:
        """(factor, places) of the variables that share it."""
        found: Dict[float, List[int]] = {}
        for i, variable in enumerate(variables):
            found.setdefault(self.factor(variable), []).append(i)
        return list(found.items())

    @contextlib.contextmanager
    def decays(self) -> Iterator[Dict[str, Any]]:
        """The weight decays as the user set them, which come back at the end; also where the
        replicas of a strategy take turns in here."""
        first = self._decays is None
        if self._decays is None:
            known = {name: getattr(self.optimizer, name, None) for name in _DECAYS}
            self._decays = {name: value for name, value in known.items() if value}
        try:
            yield self._decays
        finally:
            if first:
                for name, value in self._decays.items():
                    object.__setattr__(self.optimizer, name, value)
                self._decays = None


def _decay(wrapped: _Wrapped) -> Callable[..., Any]:
    original = wrapped.optimizer._apply_weight_decay

    def apply_weight_decay(variables: Sequence[Any]) -> None:
        variables = list(variables)
        with wrapped.decays() as own:
            for factor, places in wrapped.groups(variables) if own else ():
                for name, value in own.items():
                    object.__setattr__(wrapped.optimizer, name, value * factor)
                chosen = [variables[i] for i in places]
                # Keras on torch cannot decay an empty list.
                if any(wrapped.optimizer._use_weight_decay(v) for v in chosen):
                    original(chosen)

    return apply_weight_decay


# -------------------------------------------------------------------- Keras 3
def _keras3_step(wrapped: _Wrapped) -> Callable[..., Any]:
    original = wrapped.optimizer.update_step

    def update_step(gradient: Any, variable: Any, learning_rate: Any) -> Any:
        factor = wrapped.factor(variable)
        return original(gradient, variable, _scaled(learning_rate, factor))

    return update_step


def _parallel_step(wrapped: _Wrapped) -> Callable[..., Any]:
    """On torch Keras updates all variables in one call: here one call per factor. What the
    optimizer counts as a whole, such as Nadam's product, it counts once."""
    optimizer = wrapped.optimizer
    original = optimizer._parallel_update_step

    def parallel_update_step(grads: Any, variables: Any, learning_rate: Any) -> None:
        grads, variables = list(grads), list(variables)
        before = [(v, v * 1) for name, v in vars(optimizer).items() if _is_count(name, v)]
        for n, (factor, places) in enumerate(wrapped.groups(variables)):
            for variable, value in before if n else ():
                variable.assign(value)
            original(
                [grads[i] for i in places],
                [variables[i] for i in places],
                _scaled(learning_rate, factor),
            )

    return parallel_update_step


def _is_count(name: str, value: Any) -> bool:
    if name in ("_iterations", "_learning_rate") or not hasattr(value, "assign"):
        return False
    return tuple(value.shape) == ()


def _scaled(learning_rate: Any, factor: float) -> Any:
    return learning_rate if factor == 1.0 else learning_rate * factor


# -------------------------------------------------------------------- Keras 2
def _keras2_step(wrapped: _Wrapped) -> Callable[..., Any]:
    """Its `update_step` reads the learning rate of the optimizer: replaced for that time."""
    optimizer = wrapped.optimizer
    original = optimizer.update_step

    def update_step(gradient: Any, variable: Any) -> Any:
        factor = wrapped.factor(variable)
        if factor == 1.0:
            return original(gradient, variable)
        scheduled = "_current_learning_rate" in vars(optimizer) and not hasattr(
            optimizer._learning_rate, "assign"
        )
        name = "_current_learning_rate" if scheduled else "_learning_rate"
        kept = getattr(optimizer, name)
        object.__setattr__(optimizer, name, kept * factor)
        try:
            return original(gradient, variable)
        finally:
            object.__setattr__(optimizer, name, kept)

    return update_step


def _legacy(wrapped: _Wrapped) -> Dict[str, Callable[..., Any]]:
    """Legacy optimizers compute the terms of the learning rate once per device: here once more
    for every variable."""
    optimizer = wrapped.optimizer
    dense, sparse = optimizer._resource_apply_dense, optimizer._resource_apply_sparse
    decayed = optimizer._decayed_lr
    takes = {"dense": optimizer._dense_apply_args, "sparse": optimizer._sparse_apply_args}
    now = [1.0]

    def decayed_lr(dtype: Any) -> Any:
        return _scaled(decayed(dtype), now[-1])

    def run(original: Any, kind: str, variable: Any, arguments: Sequence[Any], state: Any) -> Any:
        place = (variable.device, variable.dtype.base_dtype)
        now.append(wrapped.factor(variable))
        try:
            if "apply_state" not in takes[kind]:
                return original(*arguments)
            if now[-1] != 1.0:
                state = {place: {}}
                optimizer._prepare_local(*place, state)
            return original(*arguments, apply_state=state)
        finally:
            now.pop()

    def apply_dense(grad: Any, var: Any, apply_state: Any = None) -> Any:
        return run(dense, "dense", var, (grad, var), apply_state)

    def apply_sparse(grad: Any, var: Any, indices: Any, apply_state: Any = None) -> Any:
        return run(sparse, "sparse", var, (grad, var, indices), apply_state)

    return {
        "_decayed_lr": decayed_lr,
        "_resource_apply_dense": apply_dense,
        "_resource_apply_sparse": apply_sparse,
    }
