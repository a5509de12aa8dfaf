"""What running a model in inference mode may still move: kept, and put back where it moved.

A BN that is called with `training=True`, a layer that counts its calls, an `add_metric`: each
may assign variables in a call that was meant to look only. JAX hands new values back instead
of assigning them, so there is nothing to put back there.
"""

from __future__ import annotations

import contextlib
from typing import Any, Iterator

import numpy as np


@contextlib.contextmanager
def model_state_kept(backend: Any, model: Any) -> Iterator[None]:
    """Variables that do not train, metrics and torch's mode flags end as they began, bit for bit.

    Args:
        backend: the adapter. model: a built model.
    """
    variables = backend.values.changed_by_inference(model)
    before = [np.array(backend.values.to_numpy(v), copy=True) for v in variables]
    flags = [(module, module.training) for module in backend.values.modules_with_mode(model)]
    try:
        yield
    finally:
        for variable, value in zip(variables, before):
            if np.array(backend.values.to_numpy(variable)).tobytes() != value.tobytes():
                backend.values.assign(variable, value)
        for module, flag in flags:
            if module.training != flag:
                module.training = flag
