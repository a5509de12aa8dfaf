"""Train a model for a while and put back everything that training moved."""

from __future__ import annotations

import contextlib
import inspect
import random
import sys
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.patches.inference_mode import _PATCHES, _training_index

_MISSING = object()
_COUNTERS = ("_train_counter", "_test_counter", "_predict_counter")
_KEPT = ("train_function", "train_tf_function", "test_function", "stop_training", "history")
# What a first step builds; a `fit` that finds them built already draws other random numbers.
_BUILT = ("_compile_metrics", "_compile_loss", "compiled_metrics", "compiled_loss")


class TrialTraining:
    """Context manager: inside it a model may train; when it is left, nothing has happened.

    Put back bit for bit: every variable of the model (weights, moving statistics, seed
    generators), of its metrics and of optimizers it keeps under other names, the counters of
    Keras 2, the compiled step, and every random state of the process. The model's optimizer is
    not touched: inside, an optimizer of the same class, settings and slots stands in for it.

    Args:
        backend: the adapter. model: a built and compiled model.
    """

    def __init__(self, backend: Any, model: Any) -> None:
        self._backend, self._model = backend, model
        self._steps: Dict[str, Any] = {}

    def __enter__(self) -> TrialTraining:
        backend, model = self._backend, self._model
        backend.values.sync(model)
        self._random = contextlib.ExitStack()
        self._random.enter_context(random_states_kept(backend))
        self._optimizer = model.optimizer
        self._attributes = {name: model.__dict__.get(name, _MISSING) for name in _KEPT}
        self._variables = _moved_by_training(backend, model)
        self._values = [backend.values.to_numpy(variable) for variable in self._variables]
        built = [model.__dict__.get(name) for name in _BUILT]
        self._insides = [(thing, _inside(thing)) for thing in built if thing is not None]
        try:
            backend.optimizer.renew(model)
            self._slots = backend.optimizer.state(model)
            # The count of steps came over as it is; on JAX a step would use up that of both.
            backend.optimizer.load_state(model, self._slots)
        except BaseException:
            self.__exit__()
            raise
        return self

    def rewind(self, seed: int = 0) -> None:
        """Values and optimizer as they were on entry; compiled steps are kept.

        Python, NumPy and torch are seeded. TensorFlow is not: that would also begin anew what
        operations of the user's with a seed of their own have drawn from so far.
        """
        backend, model = self._backend, self._model
        random.seed(seed)
        np.random.seed(seed)
        if "torch" in sys.modules:
            sys.modules["torch"].manual_seed(seed)
        backend.values.sync(model)
        self._put_back()
        backend.optimizer.load_state(model, self._slots)

    @contextlib.contextmanager
    def step(self, name: str, held: Any) -> Iterator[Callable[..., Any]]:
        """The `train_on_batch` of the model inside the context manager `held`.

        Args:
            name: steps of one name share one compiled step, so their `held` must be alike.
        """
        model = self._model
        own, before = model.train_step, model.__dict__.get("train_step", _MISSING)

        # A function of its own: JAX finds what it traced for an equal one, held or not.
        def train_step(*args: Any, **kwargs: Any) -> Any:
            return own(*args, **kwargs)

        object.__setattr__(model, "train_function", self._steps.get(name))
        object.__setattr__(model, "train_step", train_step)
        try:
            with held:
                yield model.train_on_batch
            self._backend.values.sync(model)
            self._steps[name] = model.train_function
        finally:
            _restore(model, "train_step", before)

    def __exit__(self, *exception: Any) -> None:
        model = self._model
        try:
            with contextlib.suppress(Exception):
                self._backend.values.sync(model)
            model.optimizer = self._optimizer
            self._put_back()
        finally:
            for name, value in self._attributes.items():
                _restore(model, name, value)
            for thing, inside in self._insides:
                _unbuild(thing, inside)
            self._random.close()

    def _put_back(self) -> None:
        for variable, value in zip(self._variables, self._values):
            self._backend.values.assign(variable, value)


def _restore(owner: Any, name: str, value: Any) -> None:
    if value is _MISSING:
        owner.__dict__.pop(name, None)
    else:
        object.__setattr__(owner, name, value)


def _inside(thing: Any) -> Dict[str, Tuple[Any, Any]]:
    """The attributes of an object, and what its lists, sets and dicts hold."""
    return {
        name: (value, value.copy() if type(value) in (list, dict, set) else None)
        for name, value in thing.__dict__.items()
    }


def _unbuild(thing: Any, inside: Mapping[str, Tuple[Any, Any]]) -> None:
    """The attributes as they were, with the contents they had."""
    for name in set(thing.__dict__) - set(inside):
        object.__delattr__(thing, name)
    for name, (value, held) in inside.items():
        object.__setattr__(thing, name, value)
        if held is not None:
            value.clear()
            getattr(value, "extend" if isinstance(value, list) else "update")(held)


def _moved_by_training(backend: Any, model: Any) -> List[Any]:
    """Every variable a training step may change, each once, but for the model's optimizer's."""
    found = list(model.variables) + list(model.weights)
    for metric in getattr(model, "metrics", ()):
        found += list(metric.variables)
    for name in _COUNTERS:
        counter = model.__dict__.get(name)
        if hasattr(counter, "assign"):
            found.append(counter)
    for value in list(vars(model).values()):
        if isinstance(value, backend.keras.optimizers.Optimizer) and value is not model.optimizer:
            variables = value.variables
            found += list(variables() if callable(variables) else variables)
    return list({id(variable): variable for variable in found}.values())


class trainable_norms:
    """Context manager: BN layers run in training mode, whatever flags and arguments say.

    Open it around training steps alone. Each `call` gets `training=True` and sees its layer's
    own flag as True for its length, so that it normalises by the batch and moves its
    statistics. Which variables train stays as it is.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        self._layers = list({id(layer): layer for layer in layers}.values())
        self._entered: List[Any] = []

    def __enter__(self) -> None:
        try:
            for layer in self._layers:
                _PATCHES.enter(layer, "call", _live_call(layer), self)
                self._entered.append(layer)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *exception: Any) -> None:
        while self._entered:
            _PATCHES.leave(self._entered.pop(), "call", self)


def _live_call(layer: Any) -> Callable[[Any], Any]:
    def make(call: Any) -> Any:
        index = _training_index(call)
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

    return make


@contextlib.contextmanager
def random_states_kept(backend: Any) -> Iterator[None]:
    """Python's, NumPy's, torch's, TensorFlow's and this Keras's own random states as they were."""
    before: List[Tuple[Callable[[Any], Any], Any]] = [
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state()),
        *_torch_states(),
        *_tensorflow_states(),
        *backend.values.random_states(),
    ]
    try:
        yield
    finally:
        for put_back, state in before:
            put_back(state)


def _torch_states() -> List[Tuple[Callable[[Any], Any], Any]]:
    torch = sys.modules.get("torch")
    return [] if torch is None else [(torch.set_rng_state, torch.get_rng_state())]


def _tensorflow_states() -> List[Tuple[Callable[[Any], Any], Any]]:
    """The generator that eager operations and new functions take their seeds from."""
    if "tensorflow" not in sys.modules:
        return []
    from tensorflow.python.eager import context

    present = context.context()
    generator = getattr(present, "_rng", None)
    if generator is None:
        return []

    def put_back(state: Any) -> None:
        generator.setstate(state)

    return [(put_back, generator.getstate())]
