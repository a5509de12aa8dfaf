"""Find out what a BN class does by calling a fresh layer of it on two small batches."""

from __future__ import annotations

from typing import Any, Callable, List, Optional

import numpy as np

from keras_bnguard.backends.self_test import keras_tensor
from keras_bnguard.backends.signatures import takes_training
from keras_bnguard.records import NormBehaviour

_CHANNELS = 3


def measure_norm(
    keras: Any, to_numpy: Callable[[Any], np.ndarray], layer: Any
) -> Optional[NormBehaviour]:
    """Return what the class of a BN does, or None where no fresh layer can be made and run.

    The fresh layer comes from the layer's own `get_config`; the user's layer is not touched.

    Args:
        keras: the Keras module.
        to_numpy: reads a variable or tensor.
        layer: a BN.
    """
    try:
        batch = keras_tensor(keras, _batch(layer))
        return NormBehaviour(
            trainable_updates=_updates(to_numpy, _fresh(layer, True), batch),
            frozen_updates=_updates(to_numpy, _fresh(layer, False), batch),
            frozen_uses_batch=_mode_matters(to_numpy, _fresh(layer, False), batch),
        )
    except Exception:
        return None


def _fresh(layer: Any, trainable: bool) -> Any:
    config = dict(layer.get_config())
    config["name"] = "bng_measured"
    config["trainable"] = trainable
    if "momentum" in config:
        config["momentum"] = 0.5
    fresh = type(layer).from_config(config)
    fresh.trainable = trainable
    return fresh


def _batch(layer: Any) -> np.ndarray:
    axis = getattr(layer, "axis", -1)
    axes: List[int] = [int(a) for a in axis] if isinstance(axis, (list, tuple)) else [int(axis)]
    spec = getattr(layer, "input_spec", None)
    rank = getattr(spec, "ndim", None) or max([2] + [a + 1 for a in axes if a >= 0])
    shape = [4] + [2] * (int(rank) - 1)
    for a in axes:
        shape[a] = _CHANNELS
    values = 5.0 + 3.0 * np.sin(np.arange(np.prod(shape), dtype=np.float32))
    return values.reshape(shape).astype(np.float32)


def _updates(to_numpy: Callable[[Any], np.ndarray], fresh: Any, batch: Any) -> bool:
    """Whether calls in training mode change the moving mean."""
    fresh(batch, training=False) if takes_training(fresh) else fresh(batch)
    before = to_numpy(fresh.moving_mean).copy()
    for _ in range(2):
        _call(fresh, batch, True)
    return bool(np.any(to_numpy(fresh.moving_mean) != before))


def _mode_matters(to_numpy: Callable[[Any], np.ndarray], fresh: Any, batch: Any) -> bool:
    """Whether the output in training mode differs from that in inference mode."""
    in_inference = np.array(to_numpy(_call(fresh, batch, False)))
    in_training = np.array(to_numpy(_call(fresh, batch, True)))
    return bool(np.max(np.abs(in_inference - in_training)) > 1e-3)


def _call(layer: Any, batch: Any, training: bool) -> Any:
    """Call a layer as a model does: `training` comes from the call around it."""
    try:
        return layer(batch, training=training)
    except TypeError:
        return layer(batch)


def loops_over_time(keras: Any, layer: Any) -> bool:
    """Return whether a layer is recurrent: its cell runs once a time step.

    Args:
        keras: the Keras of the layer.
        layer: any layer.
    """
    return isinstance(layer, keras.layers.RNN)
