"""What running a model in inference mode may still move: kept, and put back where it moved.

A BN that is called with `training=True`, a layer that counts its calls, an `add_metric`: each
may assign variables in a call that was meant to look only. JAX hands new values back instead
of assigning them, so there is nothing to put back there.
"""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, List

import numpy as np


@contextlib.contextmanager
def model_state_kept(backend: Any, model: Any) -> Iterator[None]:
    """Variables that do not train, metrics and torch's mode flags end as they began, bit for bit.

    Args:
        backend: the adapter. model: a built model.
    """
    variables = [] if backend.backend == "jax" else _variables(model)
    before = [np.array(backend.to_numpy(v), copy=True) for v in variables]
    modules = getattr(model, "modules", None) if backend.backend == "torch" else None
    flags = [(module, module.training) for module in modules()] if callable(modules) else []
    try:
        yield
    finally:
        for variable, value in zip(variables, before):
            if np.array(backend.to_numpy(variable)).tobytes() != value.tobytes():
                backend.assign(variable, value)
        for module, flag in flags:
            if module.training != flag:
                module.training = flag


def _variables(model: Any) -> List[Any]:
    found = list(model.non_trainable_variables)
    with contextlib.suppress(Exception):  # Keras 2: a model that was never compiled has none.
        for metric in model.metrics:
            found += list(metric.variables)
    known = {id(v): v for v in found}
    return list(known.values())
