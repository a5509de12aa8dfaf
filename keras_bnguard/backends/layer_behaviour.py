"""Find out what a BN class does by calling a fresh layer of it on two small batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, Optional

import numpy as np

from keras_bnguard.backends.self_test import keras_tensor
from keras_bnguard.records import NormBehaviour

if TYPE_CHECKING:
    from keras_bnguard.backends.base import Backend

_CHANNELS = 3


def measure_norm(backend: Backend, layer: Any) -> Optional[NormBehaviour]:
    """Behaviour of the class of `layer`, or None where no fresh layer can be made and run.

    The fresh layer comes from the layer's own `get_config`; the user's layer is not touched.
    """
    try:
        return NormBehaviour(
            trainable_updates=_changed(backend, layer, trainable=True),
            frozen_updates=_changed(backend, layer, trainable=False),
            frozen_uses_batch=_mode_matters(backend, layer),
        )
    except Exception:
        return None


def _fresh(backend: Backend, layer: Any, trainable: bool) -> Any:
    config = dict(layer.get_config())
    config["name"] = "bng_measured"
    config["trainable"] = trainable
    if "momentum" in config:
        config["momentum"] = 0.5
    fresh = type(layer).from_config(config)
    fresh.trainable = trainable
    return fresh


def _batch(backend: Backend, layer: Any) -> Any:
    axis = getattr(layer, "axis", -1)
    axes: List[int] = [int(a) for a in axis] if isinstance(axis, (list, tuple)) else [int(axis)]
    spec = getattr(layer, "input_spec", None)
    rank = getattr(spec, "ndim", None) or max([2] + [a + 1 for a in axes if a >= 0])
    shape = [4] + [2] * (int(rank) - 1)
    for a in axes:
        shape[a] = _CHANNELS
    values = 5.0 + 3.0 * np.sin(np.arange(np.prod(shape), dtype=np.float32))
    return keras_tensor(backend.keras, values.reshape(shape).astype(np.float32))


def _changed(backend: Backend, layer: Any, trainable: bool) -> bool:
    fresh = _fresh(backend, layer, trainable)
    batch = _batch(backend, layer)
    fresh(batch, training=False) if _accepts_training(fresh) else fresh(batch)
    before = backend.to_numpy(fresh.moving_mean).copy()
    for _ in range(2):
        _call(fresh, batch, True)
    return bool(np.any(backend.to_numpy(fresh.moving_mean) != before))


def _mode_matters(backend: Backend, layer: Any) -> bool:
    fresh = _fresh(backend, layer, trainable=False)
    batch = _batch(backend, layer)
    still = np.array(_as_array(backend, _call(fresh, batch, False)))
    moving = np.array(_as_array(backend, _call(fresh, batch, True)))
    return bool(np.max(np.abs(still - moving)) > 1e-3)


def _accepts_training(layer: Any) -> bool:
    import inspect

    return "training" in inspect.signature(layer.call).parameters


def _call(layer: Any, batch: Any, training: bool) -> Any:
    """Call a layer the way a model does: `training` comes from the call around it."""
    try:
        return layer(batch, training=training)
    except TypeError:
        return layer(batch)


def _as_array(backend: Backend, tensor: Any) -> np.ndarray:
    return backend.to_numpy(tensor)
