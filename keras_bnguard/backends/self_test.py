"""Ask the running Keras what it does with `training` and `trainable`.

Three layers that only write down the `training` value that reaches them; no weights, no
arithmetic, a few milliseconds. Every layer is named, so no automatic name of the user's moves.
"""

from __future__ import annotations

from typing import Any, Dict

import numpy as np

from keras_bnguard.records import Behaviour


def measure_behaviour(keras: Any) -> Behaviour:
    """Run the self-test on a Keras module (2 or 3, any backend).

    Args:
        keras: the module, with `layers`, `Input` and `Model`.

    Returns:
        What arrived where; nothing is cached here, the backend keeps it.
    """
    seen: Dict[str, Any] = {}
    layer_class = keras.layers.Layer

    class Recorder(layer_class):  # type: ignore[misc, valid-type]
        def call(self, x: Any, training: Any = None) -> Any:
            seen[self.name] = training
            return x

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    class Switched(layer_class):  # type: ignore[misc, valid-type]
        def call(self, x: Any, training: Any = True) -> Any:
            return x

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    class Pair(layer_class):  # type: ignore[misc, valid-type]
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.first = Recorder(name="bng_call_first")
            self.second = Recorder(name="bng_call_second")

        def call(self, x: Any, training: Any = None) -> Any:
            return self.second(self.first(x, training=False))

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    x = np.zeros((1, 1), np.float32)

    def graph(tag: str, value: Any) -> Any:
        inner_in = keras.Input((1,), name=f"bng_{tag}_inner_in")
        inner = keras.Model(
            inner_in, Recorder(name=f"bng_{tag}_inner")(inner_in), name=f"bng_{tag}_model"
        )
        outer_in = keras.Input((1,), name=f"bng_{tag}_in")
        after = Recorder(name=f"bng_{tag}_after")(inner(outer_in, training=value))
        return keras.Model(outer_in, after, name=f"bng_{tag}_outer")

    def run(model: Any, **kwargs: Any) -> None:
        seen.clear()
        model(keras_tensor(keras, x), **kwargs)

    false_graph = graph("false", False)
    run(false_graph, training=True)
    graph_false_honoured = not bool(seen.get("bng_false_inner", False))
    false_leaks_in_graph = not bool(seen.get("bng_false_after", False))

    run(graph("true", True), training=False)
    graph_true = bool(seen.get("bng_true_inner", False))

    run(Pair(name="bng_pair"), training=True)
    leaks_in_call = not bool(seen.get("bng_call_second", False))

    switched_in = keras.Input((1,), name="bng_switch_in")
    switched = keras.Model(
        switched_in,
        Recorder(name="bng_switch_after")(Switched(name="bng_switch")(switched_in)),
        name="bng_switch_model",
    )
    run(switched)
    default_leaks = bool(seen.get("bng_switch_after", False))

    pair = Pair(name="bng_setter")
    pair.first.trainable = False
    pair.trainable = True
    return Behaviour(
        graph_false_honoured=graph_false_honoured,
        graph_true_at_inference=graph_true,
        false_leaks_in_graph=false_leaks_in_graph,
        false_leaks_in_call=leaks_in_call,
        default_leaks=default_leaks,
        setter_skips_equal=not pair.first.trainable,
    )


def keras_tensor(keras: Any, array: np.ndarray) -> Any:
    """An array as a tensor of the backend a Keras runs on."""
    ops = getattr(keras, "ops", None)
    if ops is not None and hasattr(ops, "convert_to_tensor"):
        return ops.convert_to_tensor(array)
    import tensorflow as tf

    return tf.convert_to_tensor(array)
