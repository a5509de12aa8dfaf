"""Train a model for a while and restore everything that training changed."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any, Callable, Dict, Iterator, List, Sequence

from keras_bnguard.backends.patches.attribute_patches import Target, unwrap_all, wrap_all
from keras_bnguard.backends.signatures import training_position
from keras_bnguard.backends.values.random_states import set_seeds
from keras_bnguard.backends.values.restore import (
    SavedAttributes,
    SavedContents,
    SavedModelState,
    SavedRandomStates,
    SavedVariables,
    restoring,
)

# What a trial goes on with; the variables in it begin again.
_OF_TRAINING = frozenset(
    [
        "optimizer",
        "train_function",
        "train_tf_function",
        "test_function",
        "_jax_state",
        "_jax_state_synced",
    ]
)
# What a first step builds; a `fit` that finds them built already draws other random numbers.
_BUILT = ("_compile_metrics", "_compile_loss", "compiled_metrics", "compiled_loss")


class TrialTraining:
    """Context manager: inside it a model may train; after it, nothing has happened.

    Restored bit for bit: every variable of the model (weights, moving statistics, seed
    generators), of its metrics and of optimizers it keeps under other names, the counters of
    Keras 2, the compiled step, and every random state of the process. The model's optimizer is
    not touched: inside, an optimizer of the same class, settings and state stands in for it.

    Args:
        backend: the backend of the model.
        model: a built and compiled model.
    """

    def __init__(self, backend: Any, model: Any) -> None:
        self._backend, self._model = backend, model
        self._steps: Dict[str, Any] = {}
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> TrialTraining:
        backend, model = self._backend, self._model
        backend.values.sync(model)
        built = [model.__dict__.get(name) for name in _BUILT]
        self._state = SavedModelState(backend, model, assigned=True, without=built)
        self._variables = SavedVariables(backend, _other_variables(backend, model))
        with contextlib.ExitStack() as stack:
            stack.enter_context(
                restoring(
                    SavedRandomStates(backend),
                    *(SavedContents(thing) for thing in built if thing is not None),
                    self._state,
                    self._variables,
                )
            )
            stack.callback(setattr, model, "optimizer", model.optimizer)
            stack.callback(self._sync)
            backend.optimizer.put_stand_in(model)
            self._optimizer_state = backend.optimizer.state(model)
            # The count of steps was taken over as it is; on JAX a step would use up both.
            backend.optimizer.load_state(model, self._optimizer_state)
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._exit.close()

    def rewind(self, seed: int = 0) -> None:
        """Restore values and optimizer as they were at the start; compiled steps are kept.

        Args:
            seed: the seed for Python, NumPy and torch. Defaults to 0.
        """
        set_seeds(seed)
        self._backend.values.sync(self._model)
        self._state.restore(leave=_OF_TRAINING)
        self._variables.restore()
        self._backend.optimizer.load_state(self._model, self._optimizer_state)

    @contextlib.contextmanager
    def step(self, name: str, context: Any) -> Iterator[Callable[..., Any]]:
        """Yield the `train_on_batch` of the model, inside the context manager `context`.

        Args:
            name: steps of one name share one compiled step, so their `context` must be alike.
            context: a context manager that changes how layers are called.
        """
        model = self._model
        own, before = model.train_step, SavedAttributes(model, ("train_step",))

        # A function of its own: JAX finds what it traced for an equal one, whatever is around.
        def train_step(*args: Any, **kwargs: Any) -> Any:
            return own(*args, **kwargs)

        object.__setattr__(model, "train_function", self._steps.get(name))
        object.__setattr__(model, "train_step", train_step)
        with restoring(before):
            with context:
                yield model.train_on_batch
            self._backend.values.sync(model)
            self._steps[name] = model.train_function

    def _sync(self) -> None:
        with contextlib.suppress(Exception):
            self._backend.values.sync(self._model)


def _other_variables(backend: Any, model: Any) -> List[Any]:
    """Variables of metrics, and of optimizers that a model keeps under other names."""
    found = []
    for metric in getattr(model, "metrics", ()):
        found += list(metric.variables)
    for value in list(vars(model).values()):
        if isinstance(value, backend.keras.optimizers.Optimizer) and value is not model.optimizer:
            variables = value.variables
            found += list(variables() if callable(variables) else variables)
    return list({id(variable): variable for variable in found}.values())


class ForcedTraining:
    """Context manager: BN layers run in training mode, whatever flags and arguments are.

    Open it around training steps alone. Each `call` gets `training=True`, and for its length
    the layer's own flag is True, so that it normalises with batch statistics and updates its
    moving statistics. Which variables train stays as it is.

    Args:
        layers: the BN layers.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        unique = {id(layer): layer for layer in layers}.values()
        self._targets: List[Target] = [(each, "call", _training_call(each)) for each in unique]

    def __enter__(self) -> None:
        wrap_all(self._targets, who=self)

    def __exit__(self, *exception: Any) -> None:
        unwrap_all(self._targets, who=self)


def _training_call(layer: Any) -> Callable[[Any], Any]:
    def wrap(call: Any) -> Any:
        index = training_position(call)
        if index < 0:
            return call

        def call_in_training_mode(*args: Any, **kwargs: Any) -> Any:
            if len(args) > index:
                args = (*args[:index], True, *args[index + 1 :])
            else:
                kwargs["training"] = True
            before = layer._trainable
            object.__setattr__(layer, "_trainable", True)
            try:
                return call(*args, **kwargs)
            finally:
                object.__setattr__(layer, "_trainable", before)

        call_in_training_mode.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
        return call_in_training_mode

    return wrap
