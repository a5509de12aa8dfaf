"""What Keras does with `training=` that was written at one call, put right for one step."""

from __future__ import annotations

import threading
from typing import Any

from keras_bnguard.backends.signatures import in_place_of


class ObeyedGraphCall:
    """Stands in for the layer of a graph node that was written with `training=False`.

    Keras asks the layer of a node whether it takes `training` before it overrides what was
    written. This object has no such argument, so the written False reaches the layer. The
    caller's value is restored afterwards.
    """

    def __init__(self, backend: Any, operation: Any) -> None:
        self._backend = backend
        self.operation = operation
        self.name = operation.name
        self.call = operation.call
        taken = getattr(operation, "_call_context_args", ())
        self._call_context_args = {name for name in taken if name != "training"}
        self._call_has_training_arg = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        context = self._backend.step.call_context()
        before = getattr(context, "training", None)
        try:
            return self.operation(*args, **kwargs)
        finally:
            if context is not None:
                context.training = before


class LeakStop:
    """Keeps an explicit `training=` from reaching layers called later in the same `call`.

    Keras 3 carries `training` in one object per outermost call and does not restore it when an
    inner layer returns. Each wrapped `call` notes the value at its start; when an inner one
    returns, the value of the layer around it is restored.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._local = threading.local()

    def wrap(self, call: Any) -> Any:
        """Wrap the `call` of a layer."""
        step, local = self._backend.step, self._local

        def call_without_leak(*args: Any, **kwargs: Any) -> Any:
            stack = local.__dict__.setdefault("stack", [])
            context = step.call_context()
            if context is None and kwargs.get("training") is not None:
                # JAX's stateless step enters `call` directly, so nothing carries `training`
                # to the layers inside, as it does on the other backends.
                with step.opened_call_context(kwargs["training"]):
                    return call_without_leak(*args, **kwargs)
            stack.append(getattr(context, "training", None))
            try:
                return call(*args, **kwargs)
            finally:
                stack.pop()
                context = step.call_context()
                if stack and context is not None:
                    context.training = stack[-1]

        return in_place_of(call, call_without_leak)
