"""One Keras on one backend: its five interfaces, and how they are put together."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Type

from keras_bnguard.backends.parts.flags import Flags
from keras_bnguard.backends.parts.graph import Graph
from keras_bnguard.backends.parts.optimizer import Optimizer
from keras_bnguard.backends.parts.step import Step
from keras_bnguard.backends.values.base import Values
from keras_bnguard.records import Stack


@dataclass(frozen=True)
class Parts:
    """The five classes of one backend; an adapter module has one of these as `PARTS`.

    Attributes:
        graph: how models are put together.
        flags: the `trainable` flags of layers.
        optimizer: the optimizer of a model.
        step: its training step.
        values: values of variables and tensors.
    """

    graph: Type[Graph]
    flags: Type[Flags]
    optimizer: Type[Optimizer]
    step: Type[Step]
    values: Type[Values]


@dataclass(frozen=True, eq=False)
class Backend:
    """What this package asks of a Keras, in five parts.

    Attributes:
        keras: the Keras module (`keras`, `tf_keras`, or the `keras` behind `tf.keras`).
        name: the name of the stack, see `registry`.
        backend: what computes, as `keras.backend.backend()` returns it.
        graph: how models are put together.
        flags: the `trainable` flags of layers.
        optimizer: the optimizer of a model.
        step: its training step.
        values: values of variables and tensors.
    """

    keras: Any
    name: str
    backend: str
    graph: Graph
    flags: Flags
    optimizer: Optimizer
    step: Step
    values: Values

    @property
    def package(self) -> str:
        """The import name of this Keras."""
        return self.graph.package

    @property
    def version(self) -> str:
        """The version of this Keras."""
        return str(self.keras.__version__)

    @functools.cached_property
    def stack(self) -> Stack:
        """This Keras with what its self-test found; the test runs once per process."""
        return Stack(
            name=self.name,
            package=self.package,
            version=self.version,
            backend=self.backend,
            flags=self.flags.timing,
            behaviour=self.step.behaviour,
            replica_statistics=self.step.replica_statistics,
        )


def assemble(keras: Any, name: str, backend: str, parts: Parts) -> Backend:
    """Return the backend that is made of five classes.

    Args:
        keras: the Keras module.
        name: the name of the stack.
        backend: what computes.
        parts: the five classes.
    """
    values = parts.values(keras)
    graph = parts.graph(keras)
    optimizer = parts.optimizer(values)
    flags = parts.flags(graph, optimizer, values)
    step = parts.step(graph, optimizer, values)
    return Backend(keras, name, backend, graph, flags, optimizer, step, values)
