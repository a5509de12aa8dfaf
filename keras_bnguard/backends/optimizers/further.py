"""Optimizers that a model has besides the one that Keras compiled it with, as a GAN has."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.optimizers.lazy import kept_learning_rate
from keras_bnguard.backends.optimizers.renewal import (
    inner_optimizer,
    learning_rate_function,
    strategy_scope,
    trained_variables,
)

COMPILED = "optimizer"
"""The attribute of the optimizer that Keras compiled a model with."""


class FurtherOptimizers:
    """The optimizers in attributes of a model that its own training step uses.

    Args:
        backend: the backend of the model.
        model: a compiled model.
    """

    def __init__(self, backend: Any, model: Any) -> None:
        self._model = model
        self._values = backend.values
        self._given = _optimizers_in(backend.keras, model)
        self._found = {name: inner_optimizer(each) for name, each in self._given.items()}

    @property
    def names(self) -> Tuple[str, ...]:
        """The attributes, in the order in which they were set; empty for most models."""
        return tuple(self._found)

    def scheduled(self) -> Tuple[str, ...]:
        """The attributes of those whose learning rate is a schedule or a function."""
        return tuple(n for n, each in self._found.items() if learning_rate_function(each))

    def set_learning_rates(self, learning_rates: Mapping[str, float]) -> None:
        """Assign a learning rate to each optimizer that is named.

        Args:
            learning_rates: attribute -> learning rate; "optimizer" is that of `compile()`.
        """
        for name, value in learning_rates.items():
            optimizer = self._found.get(name)
            if optimizer is None:
                optimizer = inner_optimizer(self._model.optimizer)
            optimizer.learning_rate = float(value)

    def build(self, variables: Sequence[Any]) -> None:
        """Build those that are not built yet for these variables.

        Keras refuses to update a variable that an optimizer was not built for, so an optimizer
        has to know the variables of all phases before the first one. State of a variable that
        gets no gradient stays as it began.
        """
        with strategy_scope(self._model):
            for optimizer in self._found.values():
                if hasattr(optimizer, "build") and trained_variables(optimizer) is None:
                    optimizer.build(list(variables))
                elif hasattr(optimizer, "_create_all_weights"):  # A legacy one of Keras 2.
                    optimizer._create_all_weights(list(variables))

    def state(self) -> Dict[str, List[np.ndarray]]:
        """Return for each attribute copies of learning rate (NaN: a schedule) and variables."""
        return {
            name: [self._learning_rate(name), *map(self._values.to_numpy, self._variables(name))]
            for name in self._found
        }

    def load_state(
        self, state: Mapping[str, Sequence[np.ndarray]], *, learning_rates: bool = True
    ) -> bool:
        """Assign what `state` returned; False, with nothing changed, where it does not fit.

        Args:
            state: of optimizers in the same attributes.
            learning_rates: assign these, too. Defaults to True.
        """
        variables = {name: self._variables(name) for name in self._found}
        shapes = {n: [tuple(int(d) for d in v.shape) for v in vs] for n, vs in variables.items()}
        if shapes != {n: [tuple(value.shape) for value in vs[1:]] for n, vs in state.items()}:
            return False
        for name, (learning_rate, *values) in state.items():
            before = self._learning_rate(name)
            for variable, value in zip(variables[name], values):
                variable.assign(value)
            wanted = learning_rate if learning_rates else before
            if not np.isnan(wanted):
                self._found[name].learning_rate = float(wanted)
        return True

    def _learning_rate(self, name: str) -> np.ndarray:
        optimizer = self._found[name]
        if learning_rate_function(optimizer):
            return np.asarray(np.nan)
        return np.asarray(self._values.to_numpy(kept_learning_rate(optimizer)), np.float64)

    def _variables(self, name: str) -> List[Any]:
        found = self._given[name].variables
        return list(found() if callable(found) else found)


def _optimizers_in(keras: Any, model: Any) -> Dict[str, Any]:
    families: Tuple[Any, ...] = (keras.optimizers, getattr(keras.optimizers, "legacy", None))
    classes = tuple(family.Optimizer for family in families if hasattr(family, "Optimizer"))
    compiled = getattr(model, "optimizer", None)
    known = {id(compiled), id(None if compiled is None else inner_optimizer(compiled))}
    found: Dict[str, Any] = {}
    for name, value in vars(model).items():
        if isinstance(value, classes) and id(value) not in known:
            known.add(id(value))
            found[name] = value
    return found


def learning_rate_of_step(backend: Any, model: Any, arguments: Sequence[Any]) -> Optional[float]:
    """Return the learning rate that a training step uses, None under a schedule.

    Args:
        backend: the backend of the model.
        model: a compiled model, right before a step.
        arguments: what the train function of the model was called with.
    """
    state = backend.step.step_state(arguments[:1])
    if state is None:
        learning_rate: Optional[float] = backend.optimizer.learning_rate(model)
        return learning_rate
    kept = getattr(inner_optimizer(model.optimizer), "_learning_rate", None)
    found = [v for variable, v in zip(model.optimizer.variables, state[2]) if variable is kept]
    return float(np.asarray(found[0])) if found else None
