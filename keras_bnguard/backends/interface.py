"""What a Keras backend has to write: five small interfaces, each method with its contract.

Everything below is abstract and without code. What all backends share is in the classes that
derive from these (`graph.py`, `flags.py`, `optimizer.py`, `step.py`, `values/base.py`). A class
that leaves a method out cannot be instantiated: Python names the missing method.
`docs/backends.md` lists these methods; a test compares the page with this file.

Layers, models, variables and tensors are objects of the Keras in hand and therefore `Any`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.records import ChangeOutcome, FlagTiming, OptimizerFacts, ReplicaStatistics


class GraphInterface(ABC):
    """How models are put together: layers inside layers, and the nodes of functional graphs."""

    @abstractmethod
    def children(self, layer: Any) -> List[Any]:
        """Return the layers directly inside a layer, in the order in which Keras keeps them.

        Called for every layer of a model when a snapshot is taken. It must not build or call
        the layer.
        """

    @abstractmethod
    def own_variables(self, layer: Any) -> List[Any]:
        """Return the weights that a layer itself made, without those of layers inside it."""

    @abstractmethod
    def nodes(self, layer: Any) -> List[Tuple[Any, Any]]:
        """Return `(node, layer that the node calls)` of a functional or sequential model.

        The pairs come in execution order, without input nodes. The list is empty for a layer
        that is no graph.
        """

    @abstractmethod
    def node_call(self, node: Any) -> Tuple[Any, Sequence[Any], Any]:
        """Return `(layer, positional arguments, keyword arguments)` of the call of a node."""

    @abstractmethod
    def node_class(self) -> Optional[type]:
        """Return the class of graph nodes, or None where it cannot be found.

        The source line of a call is noted in its `__init__` while warnings for whole pipelines
        are on.
        """


class FlagsInterface(ABC):
    """The `trainable` flags of layers, and when a change of one counts.

    Attributes:
        timing: which `trainable` flags a training step follows.
    """

    timing: FlagTiming

    @abstractmethod
    def change_outcome(self, model: Any, unknown: bool) -> ChangeOutcome:
        """Return what happens when a flag was changed after `compile()`.

        Args:
            model: a compiled model.
            unknown: whether the optimizer lacks variables that are trainable now.

        Returns:
            IGNORED, LIVE or RAISES: what the next step does.
        """

    @abstractmethod
    def set_own(self, layer: Any, flag: bool) -> None:
        """Set the `trainable` of one layer without changing the layers inside it.

        A variable that is frozen on its own stays frozen.
        """

    @abstractmethod
    def remember_compiled(self, model: Any) -> None:
        """Make Keras keep the flags of now as those that the model was compiled with."""

    @abstractmethod
    def trainable_count(self, layer: Any) -> int:
        """Return the number of values of a layer's own weights that could train.

        For a BN these are gamma and beta. The layer's own flag is not taken into account, that
        of a variable is.
        """


class OptimizerInterface(ABC):
    """The optimizer that a model was compiled with."""

    @abstractmethod
    def renew(
        self, model: Any, carry: bool = True, schedule: Optional[Any] = None
    ) -> Tuple[int, int]:
        """Rebuild the optimizer of a model, the same object, for the variables that train now.

        Settings, other attributes and factors on the learning rate (`put_learning_rate_factors`)
        stay.

        Args:
            model: a compiled model.
            carry: also take over the state of variables that go on training, and the
                number of steps. Defaults to True.
            schedule: a LearningRateSchedule or a float for it. Defaults to None: the schedule,
                or the present learning rate.

        Returns:
            (variables whose state was taken over, variables whose state is new).
        """

    @abstractmethod
    def facts(self, model: Any) -> Optional[OptimizerFacts]:
        """Return what the optimizer knows of the model's variables, None without an optimizer."""


class StepInterface(ABC):
    """The training step of a model, and what counts in its loss.

    Attributes:
        regularizes_frozen: whether regularizers of frozen weights count in the loss.
        traces: whether Python code of a step may run inside a trace, where no value can be read.
        replica_statistics: what is stored of the moving statistics of several replicas.
    """

    regularizes_frozen: bool
    traces: bool
    replica_statistics: ReplicaStatistics

    @abstractmethod
    def regularization_losses(self, layer: Any) -> float:
        """Return what the regularizers of a layer's own weights add to the loss now."""

    @abstractmethod
    def update_methods(self) -> List[Tuple[type, str]]:
        """Return `(class, method name)` of the methods through which optimizers update weights.

        A custom training loop calls one of them. The names are "apply_gradients" (takes pairs of
        gradient and variable), "apply" and "stateless_apply" (as in Keras 3).
        """


class ValuesInterface(ABC):
    """Values of variables and tensors, as NumPy arrays."""

    @abstractmethod
    def to_numpy(self, variable: Any) -> np.ndarray:
        """Return a copy of a variable's value, of the same shape and dtype.

        bfloat16, which NumPy lacks, may come as float32.
        """

    @abstractmethod
    def array_operations(self) -> ArrayOperations:
        """Return the array operations that a probe of a model uses inside its call."""

    @abstractmethod
    def compiled_probe(
        self, model: Any, traced: Callable[..., Any], training: bool = False
    ) -> Callable[[Any], Any]:
        """Return a function of one batch that runs `traced` around a call of the model.

        It is compiled where the backend compiles, and computes no gradients.

        Args:
            model: a built model.
            traced: gets a function without arguments that calls the model on the batch.
            training: the mode of that call. Defaults to False (inference mode).
        """


class ArrayOperations(ABC):
    """Array operations inside the call of a model: on tensors, traced where calls are traced."""

    @abstractmethod
    def cast(self, x: Any, like: Any = None) -> Any:
        """Return `x` as float32, or in the dtype of `like`."""

    @abstractmethod
    def mean(self, x: Any, axes: List[int], weights: Any) -> Any:
        """Return the mean over `axes`; `weights` is None, or 0/1 and of the shape of `x`."""

    @abstractmethod
    def count(self, x: Any, axes: List[int], weights: Any) -> Any:
        """Return how many values the mean of one channel is over, as a float32 scalar."""

    @abstractmethod
    def weights(self, mask: Any, x: Any) -> Any:
        """Return a mask without channel axis, repeated for each channel of `x`, as float32."""

    @abstractmethod
    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        """Return `x` in another shape."""

    @abstractmethod
    def join(self, parts: Sequence[Any]) -> Any:
        """Return all values of several tensors of one dtype as one vector."""

    @abstractmethod
    def rsqrt(self, x: Any) -> Any:
        """Return the reciprocal square root of each element."""
