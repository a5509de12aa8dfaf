"""The training step of a model: its train function, its loss, and what surrounds it."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator, List, Optional, Sequence

import numpy as np

from keras_bnguard.backends.interface import StepInterface
from keras_bnguard.backends.live_objects import living_models
from keras_bnguard.backends.parts import losses
from keras_bnguard.backends.parts.graph import Graph
from keras_bnguard.backends.parts.optimizer import Optimizer
from keras_bnguard.backends.self_test import keras_tensor
from keras_bnguard.backends.signatures import has_own_train_step
from keras_bnguard.backends.values.base import Values
from keras_bnguard.records import Behaviour, ReplicaStatistics


class Step(StepInterface):
    """What is the same in every Keras.

    Args:
        graph: the graph interface of the same Keras.
        optimizer: its optimizer interface.
        values: its values interface.
    """

    regularizes_frozen = True
    traces = True
    replica_statistics = ReplicaStatistics.FIRST_REPLICA

    def __init__(self, graph: Graph, optimizer: Optimizer, values: Values) -> None:
        self._keras = graph.keras
        self._graph = graph
        self._optimizer = optimizer
        self._values = values

    @property
    def behaviour(self) -> Behaviour:
        """What this Keras does with `training` and `trainable`."""
        return self._graph.behaviour

    # ----------------------------------------------------------- train function
    def is_built(self, model: Any) -> bool:
        """Return whether a model has taken a step since `compile()`.

        From then on the flags may be part of a compiled step.
        """
        return self._optimizer.iterations(model) > 0

    def has_train_function(self, model: Any) -> bool:
        """Return whether a train function has been made since `compile()`."""
        return getattr(model, "train_function", None) is not None

    def drop_train_function(self, model: Any) -> None:
        """Forget the compiled step; the next `fit` or `train_on_batch` makes a new one."""
        if self.has_train_function(model):
            model.train_function = None

    def rebuild_train_function(self, model: Any) -> None:
        """Make a new compiled step now, as is necessary inside `fit`."""
        model.make_train_function(force=True)

    def has_own_step(self, model: Any) -> bool:
        """Return whether the user wrote the `train_step` of a model."""
        return has_own_train_step(model, self._graph.package)

    def steps_per_execution(self, model: Any) -> int:
        """Return how many batches one call of the compiled step trains on."""
        kept = getattr(model, "steps_per_execution", None)
        return int(kept) if isinstance(kept, int) else 1

    def replicas(self, model: Any) -> int:
        """Return how many copies of a model train side by side, each with its own statistics."""
        strategy = getattr(model, "distribute_strategy", None)
        return int(getattr(strategy, "num_replicas_in_sync", 1) or 1)

    def hook_framework_optimizers(self, stepped: Callable[[Any, List[Any]], None]) -> Any:
        """Call `stepped` after each step of an optimizer of the framework, not of Keras (torch).

        Args:
            stepped: gets the optimizer and the variables that it updated.

        Returns:
            An object whose `remove()` ends that, None where there are no such optimizers.
        """
        return None

    # ------------------------------------------------------------- inside a trace
    def outside_autograph(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that runs as it is written where TensorFlow rewrites `call`."""
        return function

    def in_graph_mode(self) -> bool:
        """Return whether models train as TensorFlow 1 did, in one graph without a `train_step`."""
        return False

    def graph_mode_models(self) -> List[type]:
        """Return the classes beside `keras.Model` whose `fit` trains in graph mode."""
        return []

    # ----------------------------------------------------------- around one step
    def outside_trace(self) -> Any:
        """Return a context manager inside which operations run at once, also within a trace.

        Raises:
            RuntimeError: that is not possible here, as inside a distribution strategy.
        """
        return contextlib.nullcontext()

    def step_state(self, carried: Any) -> Optional[Sequence[Any]]:
        """Return the values that a train function takes and returns, as JAX's does.

        Args:
            carried: its positional arguments in front of the data, or what it returned.

        Returns:
            Lists of values of trainable, other, optimizer and metric variables; None where steps
            read and assign the variables themselves.
        """
        return None

    def leave_step(self, model: Any, carried: Any) -> None:
        """Write to the model what a step carries outside of it, before an error ends the `fit`."""

    # ------------------------------------------------------------- call context
    def call_context(self) -> Any:
        """Return the object that carries `training` from a layer to the layers inside it.

        None outside a call, and where this Keras has no such object that leaks.
        """
        return None

    def opened_call_context(self, training: Any) -> Any:
        """Return a context manager: a call context with `training`, where none is open."""
        return contextlib.nullcontext()

    def rewritable_nodes(self, model: Any) -> Iterator[Any]:
        """Yield graph nodes whose written `training=False` this Keras would override in `fit`."""
        return iter(())

    # ---------------------------------------------------------------- the loss
    def loss_name(self, model: Any) -> str:
        """Return a name for what a model was compiled with as its loss, to compare two."""
        return losses.loss_name(getattr(model, "loss", None))

    def loss_of(self, model: Any, y: Any, outputs: Any) -> float:
        """Return the compiled loss of a batch, without regularization losses.

        Only the user's loss objects are called, so no metric is updated. With several outputs
        it is the sum, weighted by the `loss_weights` of `compile`.

        Args:
            model: a compiled model.
            y: the targets, structured as `fit` takes them.
            outputs: the predictions, NumPy arrays in the structure of the model's outputs.
        """
        total = 0.0
        for weight, (_, loss, target, output) in losses.weighted_parts(model, y, outputs):
            chosen = self._keras.losses.get(loss)
            values = chosen(keras_tensor(self._keras, target), keras_tensor(self._keras, output))
            total += weight * float(np.mean(self._values.tensor_to_numpy(values)))
        return total

    def row_losses(self, model: Any, y: Any, outputs: Any) -> np.ndarray:
        """Return the compiled loss of each row, without regularization losses.

        With several outputs it is weighted as in `loss_of`. A loss function that returns one
        number for a batch counts for all its rows.

        Returns:
            An array of shape `(rows,)`.
        """
        total: Any = 0.0
        for weight, (_, loss, target, output) in losses.weighted_parts(model, y, outputs):
            chosen = self._keras.losses.get(loss)
            each = getattr(chosen, "call", chosen)
            target = np.asarray(target)
            if target.dtype == np.float64:
                target = target.astype(np.float32)
            values = self._values.tensor_to_numpy(
                each(keras_tensor(self._keras, target), keras_tensor(self._keras, output))
            )
            rows = len(np.asarray(output))
            values = np.broadcast_to(values, (rows,)) if not values.ndim else values
            total = total + weight * np.mean(np.asarray(values, float).reshape(rows, -1), axis=1)
        return np.asarray(total)

    # ------------------------------------------------------------- other models
    def other_models(self, model: Any) -> List[Any]:
        """Return the other compiled models that are alive (walks through all objects)."""
        return [
            other
            for other in living_models(self._keras)
            if other is not model and getattr(other, "optimizer", None) is not None
        ]
