"""TensorFlow's graph mode: there values cannot be read beside the training, nor steps replaced."""

from __future__ import annotations

from typing import Any

from keras_bnguard.backends.registry import backend_for, loaded_backends
from keras_bnguard.errors import UnsupportedModelError

GRAPH_MODE = (
    "TensorFlow runs in graph mode, as after tf.compat.v1.disable_eager_execution() or inside a "
    "tf.Graph, and training in it cannot be watched"
)
"""The sentence of every report of such a training."""


def any_in_graph_mode() -> bool:
    """Whether a Keras that is imported runs in graph mode now."""
    return any(backend.step.in_graph_mode() for backend in loaded_backends())


def require_eager(model: Any, what: str) -> None:
    """Refuse graph mode, before anything is read.

    Args:
        model: a Keras model.
        what: the name of what was called, for the message.

    Raises:
        UnsupportedModelError: TensorFlow runs in graph mode, or `model` is no Keras model.
    """
    if backend_for(model).step.in_graph_mode():
        raise UnsupportedModelError(
            f"{what} needs eager execution, and TensorFlow runs in graph mode, as after "
            "tf.compat.v1.disable_eager_execution() or inside a tf.Graph. Save the weights there, "
            "and load them into the same model in a program that runs eagerly."
        )
