"""The optimizer of a model: its learning rate, its state, and what it knows of the model."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.interface import OptimizerInterface
from keras_bnguard.backends.known_stacks import PACKAGES
from keras_bnguard.backends.optimizers.in_place import keep_settings, marks, wrapped_chain
from keras_bnguard.backends.optimizers.lazy import kept_learning_rate, step_counter
from keras_bnguard.backends.optimizers.learning_rates import (
    Factors,
    move_factors,
    put_factors,
    take_factors,
)
from keras_bnguard.backends.optimizers.renewal import (
    delayed,
    fresh_optimizer,
    inner_optimizer,
    learning_rate_function,
    strategy_scope,
)
from keras_bnguard.backends.signatures import OURS, package_of
from keras_bnguard.backends.values.base import Values
from keras_bnguard.errors import ScheduleError

_ADAPTIVE = ("Adam", "AdamW", "Adamax", "Nadam", "RMSprop", "Lamb", "Adafactor")


class Optimizer(OptimizerInterface):
    """What is the same in every Keras.

    Args:
        values: the values interface of the same Keras.

    Attributes:
        build_state: builds another optimizer for what trains now, with the state of the model's
            own where the third argument is True; returns the counts of `renew`.
    """

    build_state: Callable[[Any, Any, bool], Tuple[int, int]]

    def __init__(self, values: Values) -> None:
        self._keras = values.keras
        self._package = values.package
        self._values = values

    # ----------------------------------------------------------- learning rate
    def learning_rate(self, model: Any) -> Optional[float]:
        """Return the learning rate, None where it is a LearningRateSchedule."""
        optimizer = inner_optimizer(model.optimizer)
        if self.learning_rate_is_schedule(model):
            return None
        return float(self._values.to_numpy(kept_learning_rate(optimizer)))

    def learning_rate_now(self, model: Any) -> Optional[float]:
        """Return the present learning rate, also of a schedule; None where it cannot be read."""
        try:
            optimizer = inner_optimizer(model.optimizer)
            learning_rate = kept_learning_rate(optimizer)
            schedule = self._keras.optimizers.schedules.LearningRateSchedule
            if isinstance(learning_rate_function(optimizer), schedule):
                learning_rate = self._scheduled_learning_rate(optimizer)
            if isinstance(learning_rate, float):
                return learning_rate
            return float(self._values.to_numpy(learning_rate))
        except Exception:  # JAX: inside an epoch it is outside the model.
            return None

    def _scheduled_learning_rate(self, optimizer: Any) -> Any:
        """The learning rate that a schedule gives for the next step."""
        return optimizer.learning_rate

    def set_learning_rate(self, model: Any, learning_rate: float) -> None:
        """Assign the learning rate; a state that JAX keeps elsewhere is written back first."""
        self._values.sync(model)
        inner_optimizer(model.optimizer).learning_rate = float(learning_rate)

    def learning_rate_is_schedule(self, model: Any) -> bool:
        """Return whether the learning rate comes from a LearningRateSchedule or a function."""
        return learning_rate_function(inner_optimizer(model.optimizer)) is not None

    def delayed_schedule(self, schedule: Any, steps: int) -> Any:
        """Return the same LearningRateSchedule, started `steps` optimizer steps later."""
        return delayed(schedule, steps)

    def has_learning_rate_of(self, model: Any, schedules: Sequence[Any]) -> bool:
        """Return whether the learning rate is one of these schedules, delayed or loaded too."""
        kept = learning_rate_function(inner_optimizer(model.optimizer))
        with contextlib.suppress(Exception):  # Attributes that cannot be compared.
            return any(
                kept.__class__ is each.__class__ and vars(kept) == vars(each) for each in schedules
            )
        return False

    def put_learning_rate_factors(self, model: Any, factors: Factors) -> None:
        """From the next train function on, multiply the learning rate of each variable.

        Args:
            model: a compiled model.
            factors: (variable, factor) pairs; an empty list removes earlier ones.
        """
        put_factors(model.optimizer, factors)

    def remove_learning_rate_factors(self, model: Any) -> bool:
        """Remove the factors on the learning rate; return whether there were any."""
        return take_factors(model.optimizer)

    def learning_rate_writers(self, callbacks: Sequence[Any]) -> Tuple[str, ...]:
        """Return the class names of those of Keras's callbacks that assign the learning rate."""
        classes = (
            self._keras.callbacks.LearningRateScheduler,
            self._keras.callbacks.ReduceLROnPlateau,
        )
        return tuple(type(each).__name__ for each in callbacks if isinstance(each, classes))

    def learning_rate_is_settled(self, callbacks: Sequence[Any]) -> bool:
        """Return whether no callback can assign the learning rate before the first step.

        True if all are Keras's or ours and none of them runs code of the user.
        """
        open_to_users = (
            self._keras.callbacks.LambdaCallback,
            self._keras.callbacks.LearningRateScheduler,
        )
        for each in callbacks:
            packages = [package_of(cls) for cls in type(each).__mro__]
            if OURS not in packages and packages[0] not in PACKAGES:
                return False
            if isinstance(each, open_to_users):
                return False
        return True

    # ------------------------------------------------------------- what it does
    def is_adaptive(self, optimizer: Any) -> bool:
        """Return whether an optimizer divides by a running size of the gradient, as Adam does."""
        families = (self._keras.optimizers, getattr(self._keras.optimizers, "legacy", None))
        classes = [getattr(family, name, None) for family in families for name in _ADAPTIVE]
        return isinstance(optimizer, tuple(cls for cls in classes if isinstance(cls, type)))

    def weight_decay_of(self, optimizer: Any, variables: Sequence[Any]) -> Tuple[float, List[bool]]:
        """Return `(decoupled weight decay, whether each variable gets it)`; 0.0 without one."""
        reaches = getattr(optimizer, "_use_weight_decay", None)
        # In this order: a legacy optimizer makes variables when `weight_decay` is read first.
        decay = None if reaches is None else getattr(optimizer, "weight_decay", None)
        if not decay or reaches is None:
            return 0.0, [False] * len(variables)
        return float(decay), [bool(reaches(variable)) for variable in variables]

    def finish_averages(self, model: Any) -> None:
        """With `use_ema`, put the averages into the weights, as Keras does when `fit` ends."""
        self._values.sync(model)
        optimizer = inner_optimizer(model.optimizer)
        if getattr(optimizer, "use_ema", False) and self.iterations(model):
            with strategy_scope(model):
                optimizer.finalize_variable_values(list(model.trainable_variables))

    # ------------------------------------------------------------------- checks
    def check_one_learning_rate(self, model: Any) -> None:
        """Check that an optimizer has one learning rate.

        Raises:
            ScheduleError: it is a MultiOptimizer, or has no learning rate.
        """
        optimizer = inner_optimizer(model.optimizer)
        name = type(optimizer).__name__
        if any(cls.__name__ == "MultiOptimizer" for cls in type(optimizer).__mro__):
            raise ScheduleError(
                f"PhaseScheduler cannot set the learning rate of a {name}: each optimizer in it "
                "has its own. Compile with one optimizer; Phase(layer_decay=0.8) gives deeper "
                "layers a smaller learning rate."
            )
        if kept_learning_rate(optimizer) is None:
            raise ScheduleError(
                f"PhaseScheduler cannot set the learning rate of {name}: it has no learning_rate. "
                "Compile with an optimizer that has one."
            )

    def check_renewable(self, model: Any, learning_rates: Sequence[Any], reset: bool) -> None:
        """Check that an optimizer can be re-created, before anything of the model changes.

        Args:
            model: a compiled model.
            learning_rates: the schedules it will be re-created with.
            reset: whether it is re-created in any case.

        Raises:
            ScheduleError: its class cannot be made from its own config.
        """
        with strategy_scope(model):
            for learning_rate in [None, *learning_rates]:
                fresh_optimizer(model.optimizer, learning_rate)

    def put_stand_in(self, model: Any) -> None:
        """Give a model another optimizer, of the same class, settings, factors and state."""
        with strategy_scope(model):
            old = model.optimizer
            new = fresh_optimizer(old)
            before = [marks(part) for part in wrapped_chain(new)]
            self.build_state(model, new, True)
            keep_settings(wrapped_chain(old), wrapped_chain(new), before)
            move_factors(old, new)
            model.optimizer = new

    def knows_exactly(self, model: Any) -> bool:
        """Return whether the optimizer has taken steps with just the variables that train now."""
        facts = self.facts(model)
        built = facts is not None and facts.built and not facts.unknown and not facts.stale
        return built and self.iterations(model) > 0

    # -------------------------------------------------------------------- state
    def iterations(self, model: Any) -> int:
        """Return the number of steps taken; 0 without an optimizer or where it is unreadable."""
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            return 0
        try:
            counter = step_counter(inner_optimizer(optimizer))
            return 0 if counter is None else int(self._values.to_numpy(counter))
        except Exception:  # JAX: outside the model, or lost with a step that raised.
            return 0

    def state(self, model: Any) -> List[np.ndarray]:
        """Return copies of all optimizer variables, in the optimizer's own order."""
        self._values.sync(model)
        return [self._values.to_numpy(v) for v in self._variables(model)]

    def load_state(self, model: Any, state: Sequence[np.ndarray]) -> bool:
        """Assign what `state` returned; False, with nothing changed, where shapes differ."""
        variables = self._variables(model)
        shapes = [tuple(int(d) for d in v.shape) for v in variables]
        if shapes != [tuple(value.shape) for value in state]:
            return False
        for variable, value in zip(variables, state):
            variable.assign(value)
        return True

    def _variables(self, model: Any) -> List[Any]:
        variables = model.optimizer.variables
        return list(variables() if callable(variables) else variables)
