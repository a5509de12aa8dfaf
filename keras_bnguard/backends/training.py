"""How a model of this Keras trains: its flags, its optimizer, its step."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.graph import Structure
from keras_bnguard.backends.learning_rates import Factors, put_factors, take_factors
from keras_bnguard.backends.optimizers import (
    delayed,
    fresh_optimizer,
    rate_function,
    strategy_scope,
)
from keras_bnguard.errors import ScheduleError
from keras_bnguard.records import ChangeOutcome, OptimizerFacts

_ADAPTIVE = ("Adam", "AdamW", "Adamax", "Nadam", "RMSprop", "Lamb", "Adafactor")


class Training(Structure):
    """Flags, optimizer and train step of a model.

    Attributes:
        regularizes_frozen: regularisers of frozen weights count in the loss, too.
    """

    regularizes_frozen = True

    # ----------------------------------------------------------------- numbers
    def to_numpy(self, variable: Any) -> np.ndarray:
        """A copy of a variable's value as a NumPy array."""
        raise NotImplementedError

    def sync(self, model: Any) -> None:
        """Bring the values back into the model where an backend keeps them elsewhere."""

    # ------------------------------------------------------------------- flags
    def compiled_flags(self, model: Any) -> Optional[Dict[int, bool]]:
        """id(layer) -> `trainable` at `compile()`; None where this Keras keeps no record."""
        state = getattr(model, "_compiled_trainable_state", None)
        if not state:
            return None
        return {id(layer): bool(flag) for layer, flag in state.items()}

    def pending_flags(self, model: Any) -> Dict[int, bool]:
        """Flags the user wants but Keras has put aside for the length of `fit`."""
        return {}

    def step_is_built(self, model: Any) -> bool:
        """Whether the model has taken a step since `compile()`, so flags may be baked in."""
        return self.iterations(model) > 0

    def flip_outcome(self, model: Any, unknown: bool) -> ChangeOutcome:
        """What happens to a flag changed after compile; `unknown`: the optimizer does not
        know the variables that are trainable now."""
        raise NotImplementedError

    def set_own_flag(self, layer: Any, flag: bool) -> None:
        """Set the `trainable` of one layer without touching those inside it."""
        raise NotImplementedError

    def remember_compiled_flags(self, model: Any) -> None:
        """Tell Keras that the flags as they are now are those the model was compiled with."""
        raise NotImplementedError

    # --------------------------------------------------------------- optimizer
    def renew_optimizer(
        self, model: Any, carry: bool = True, schedule: Optional[Any] = None
    ) -> Tuple[int, int]:
        """Give a model an optimizer built for the variables that train now.

        The new one has the same class, settings and present learning rate, or `schedule`, a
        LearningRateSchedule. With `carry` the slots of variables both know and the iteration
        count go over. Factors on the rate go over in any case.

        Returns:
            (variables carried, variables with fresh slots).
        """
        raise NotImplementedError

    def finish_averages(self, model: Any) -> None:
        """With `use_ema`, put the averages into the weights, as Keras does when `fit` ends."""
        self.sync(model)
        optimizer = inner_optimizer(model.optimizer)
        if getattr(optimizer, "use_ema", False) and self.iterations(model):
            with strategy_scope(model):
                optimizer.finalize_variable_values(list(model.trainable_variables))

    def learning_rate(self, model: Any) -> Optional[float]:
        """The learning rate, None where it is a LearningRateSchedule."""
        optimizer = inner_optimizer(model.optimizer)
        if self.rate_is_schedule(model):
            return None
        return float(self.to_numpy(optimizer.learning_rate))

    def set_rate(self, model: Any, learning_rate: float) -> None:
        """Assign the learning rate; values JAX keeps elsewhere are brought home first."""
        self.sync(model)
        inner_optimizer(model.optimizer).learning_rate = float(learning_rate)

    def put_rate_factors(self, model: Any, factors: Factors) -> None:
        """From the next train function on, each variable trains at the rate times its factor.

        Args:
            factors: (variable, factor) pairs; an empty list takes earlier ones off.
        """
        put_factors(model.optimizer, factors)

    def take_rate_factors(self, model: Any) -> bool:
        """Back to one rate for all; whether there were others."""
        return take_factors(model.optimizer)

    def check_one_rate(self, model: Any) -> None:
        """Refuse an optimizer that has no single learning rate.

        Raises:
            ScheduleError: it is a MultiOptimizer, or knows no rate.
        """
        optimizer = inner_optimizer(model.optimizer)
        name = type(optimizer).__name__
        if any(cls.__name__ == "MultiOptimizer" for cls in type(optimizer).__mro__):
            raise ScheduleError(
                f"PhaseScheduler cannot set the rate of a {name}: each optimizer in it has its "
                "own. Compile with one optimizer; Phase(layer_decay=0.8) gives deeper layers a "
                "smaller rate."
            )
        if getattr(optimizer, "learning_rate", None) is None:
            raise ScheduleError(
                f"PhaseScheduler cannot set the rate of {name}: it has no learning_rate. "
                "Compile with an optimizer that has one."
            )

    def learning_rate_now(self, model: Any) -> Optional[float]:
        """The learning rate, of a schedule its present value; None where it cannot be read."""
        try:
            optimizer = inner_optimizer(model.optimizer)
            learning_rate = optimizer.learning_rate
            if isinstance(rate_function(optimizer), self._schedule):
                learning_rate = self._scheduled_rate(optimizer)
            return (
                float(learning_rate)
                if isinstance(learning_rate, float)
                else float(self.to_numpy(learning_rate))
            )
        except Exception:  # JAX: inside an epoch it lives outside the model.
            return None

    def _scheduled_rate(self, optimizer: Any) -> Any:
        """What its schedule gives for the next step."""
        return optimizer.learning_rate

    @property
    def _schedule(self) -> Any:
        return self.keras.optimizers.schedules.LearningRateSchedule

    def delayed_schedule(self, schedule: Any, steps: int) -> Any:
        """The same LearningRateSchedule, begun so many optimizer steps later."""
        return delayed(schedule, steps)

    def has_rate_of(self, model: Any, schedules: Sequence[Any]) -> bool:
        """Whether its schedule is one of these, also delayed, or from a file."""
        kept = rate_function(inner_optimizer(model.optimizer))
        with contextlib.suppress(Exception):  # Attributes that cannot be compared.
            return any(
                kept.__class__ is each.__class__ and vars(kept) == vars(each) for each in schedules
            )
        return False

    def knows_exactly(self, model: Any) -> bool:
        """Whether the optimizer has taken steps with the variables that train now, no others."""
        facts = self.optimizer_facts(model)
        built = facts is not None and facts.built and not facts.unknown and not facts.stale
        return built and self.iterations(model) > 0

    def check_renewable(self, model: Any, learning_rates: Sequence[Any], reset: bool) -> None:
        """Refuse an optimizer that cannot be made anew, before anything of the model changes.

        Args:
            rates: the schedules it will be made with. reset: it is made anew in any case.

        Raises:
            ScheduleError: what `fresh_optimizer` says.
        """
        with strategy_scope(model):
            for learning_rate in [None, *learning_rates]:
                fresh_optimizer(model.optimizer, learning_rate)

    def is_adaptive(self, optimizer: Any) -> bool:
        """Whether an optimizer divides by a running size of the gradient, as Adam does."""
        families = (self.keras.optimizers, getattr(self.keras.optimizers, "legacy", None))
        classes = [getattr(family, name, None) for family in families for name in _ADAPTIVE]
        return isinstance(optimizer, tuple(cls for cls in classes if isinstance(cls, type)))

    def learning_rate_writers(self, callbacks: Sequence[Any]) -> Tuple[str, ...]:
        """Classes of those of Keras's callbacks that assign the learning rate."""
        n_classes = (
            self.keras.callbacks.LearningRateScheduler,
            self.keras.callbacks.ReduceLROnPlateau,
        )
        return tuple(type(each).__name__ for each in callbacks if isinstance(each, n_classes))

    def rate_is_settled(self, callbacks: Sequence[Any]) -> bool:
        """Whether no callback can assign the rate before the first step is taken: all are
        Keras's or ours, and none runs what a user wrote."""
        open_to_users = (
            self.keras.callbacks.LambdaCallback,
            self.keras.callbacks.LearningRateScheduler,
        )
        for each in callbacks:
            packages = [cls.__module__.split(".", 1)[0] for cls in type(each).__mro__]
            ours = "keras_bnguard" in packages
            if not ours and packages[0] not in ("keras", self.package):
                return False
            if isinstance(each, open_to_users):
                return False
        return True

    def weight_decay_of(self, optimizer: Any, variables: Sequence[Any]) -> Tuple[float, List[bool]]:
        """(decoupled weight decay, which of these variables it reaches); (0.0, ...) for none."""
        decay = getattr(optimizer, "weight_decay", None)
        reaches = getattr(optimizer, "_use_weight_decay", None)
        if not decay or reaches is None:
            return 0.0, [False] * len(variables)
        return float(decay), [bool(reaches(variable)) for variable in variables]

    def regularization_losses(self, layer: Any) -> float:
        """What the regularisers of a layer's own weights add to the loss now."""
        raise NotImplementedError

    def loss_name(self, model: Any) -> str:
        """What a model was compiled with as its loss, to tell two apart."""
        return _names_of(getattr(model, "loss", None))

    def rate_is_schedule(self, model: Any) -> bool:
        """Whether the optimizer takes its rate from a LearningRateSchedule, or a function."""
        return rate_function(inner_optimizer(model.optimizer)) is not None

    def optimizer_state(self, model: Any) -> List[np.ndarray]:
        """Copies of all optimizer variables, in the optimizer's own order."""
        self.sync(model)
        return [self.to_numpy(v) for v in self._optimizer_variables(model)]

    def load_optimizer_state(self, model: Any, state: Sequence[np.ndarray]) -> bool:
        """Put optimizer variables back; False, and nothing changed, where they do not fit."""
        variables = self._optimizer_variables(model)
        shapes = [tuple(int(d) for d in v.shape) for v in variables]
        if shapes != [tuple(value.shape) for value in state]:
            return False
        for variable, value in zip(variables, state):
            variable.assign(value)
        return True

    def random_variables(self, model: Any) -> List[Any]:
        """States of the seed generators of a model's layers, which no weight file holds."""
        weights = {id(v) for v in model.weights}
        return [v for v in model.variables if id(v) not in weights]

    def random_states(self) -> List[Tuple[Callable[[Any], Any], Any]]:
        """(function that puts it back, state) of each random state this Keras keeps itself."""
        return []

    def _optimizer_variables(self, model: Any) -> List[Any]:
        variables = model.optimizer.variables
        return list(variables() if callable(variables) else variables)

    def trainable_count(self, layer: Any) -> int:
        """How many values of a layer's own weights could train (for BN: gamma and beta)."""
        raise NotImplementedError

    def optimizer_facts(self, model: Any) -> Optional[OptimizerFacts]:
        raise NotImplementedError

    def has_own_step(self, model: Any) -> bool:
        """Whether the user wrote the `train_step`: it may use several optimizers, so what
        `model.optimizer` does not know says nothing."""
        for cls in type(model).__mro__:
            if "train_step" in cls.__dict__:
                package = cls.__module__.split(".", 1)[0]
                if package != "keras_bnguard":
                    return bool(package != self.package)
        return False

    def iterations(self, model: Any) -> int:
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            return 0
        try:
            return int(self.to_numpy(optimizer.iterations))
        except Exception:
            return 0

    # -------------------------------------------------------------- train step
    def has_train_function(self, model: Any) -> bool:
        return getattr(model, "train_function", None) is not None

    def drop_train_function(self, model: Any) -> None:
        """Forget the compiled step; the next `fit` or `train_on_batch` makes a new one."""
        if getattr(model, "train_function", None) is not None:
            model.train_function = None

    def rebuild_train_function(self, model: Any) -> None:
        """Make a new compiled step now, as is needed inside `fit`."""
        model.make_train_function(force=True)

    def call_context(self) -> Any:
        """The object that carries `training` from a layer to those inside it, None outside
        a call or where this Keras has none that leaks."""
        return None

    def opened_call_context(self, training: Any) -> Any:
        """Context manager: a call context with `training` where none is open."""
        return contextlib.nullcontext()

    def rewritable_nodes(self, model: Any) -> Iterator[Any]:
        """Graph nodes whose written `training=False` this Keras would override in `fit`."""
        return iter(())


def inner_optimizer(optimizer: Any) -> Any:
    """The optimizer a LossScaleOptimizer wraps, or the optimizer itself."""
    return getattr(optimizer, "inner_optimizer", None) or optimizer


def _names_of(loss: Any) -> str:
    if isinstance(loss, dict):
        return str({key: _names_of(each) for key, each in loss.items()})
    if isinstance(loss, (list, tuple)):
        return str([_names_of(each) for each in loss])
    if loss is None or isinstance(loss, str):
        return str(loss)
    return str(getattr(loss, "name", None) or getattr(loss, "__name__", type(loss).__name__))
