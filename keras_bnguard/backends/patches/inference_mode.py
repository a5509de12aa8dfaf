"""Force layers into inference mode for the length of one trace or one eager step.

While a `ForcedInference` is open, the `call` of each of its layers is replaced on the instance
by one that passes `training=False`. `__exit__` restores everything; entering the same one again
(replica threads) is counted, another one wraps once more, and the last to leave restores. A
traced step keeps the effect and costs nothing extra.
"""

from __future__ import annotations

import inspect
import threading
from typing import Any, Callable, List, Sequence

from keras_bnguard.backends.patches.attribute_patches import (
    Target,
    Wrapper,
    unwrap_all,
    wrap_all,
)
from keras_bnguard.backends.signatures import training_position


class ForcedInference:
    """Context manager: layers, torch modules and graph calls run in inference mode.

    Args:
        backend: the backend of the model.
        layers: Keras layers whose `call` gets `training=False`.
        modules: torch BN modules whose `forward` runs in inference mode.
        nodes: graph nodes whose written `training=False` is to be obeyed.
        leak_layers: every layer of the model, where leaks are to be stopped; else empty.
    """

    def __init__(
        self,
        backend: Any,
        layers: Sequence[Any] = (),
        modules: Sequence[Any] = (),
        nodes: Sequence[Any] = (),
        leak_layers: Sequence[Any] = (),
    ) -> None:
        forced = {id(layer) for layer in layers}
        with_stop = {id(layer) for layer in leak_layers}
        stop = LeakStop(backend)
        targets: List[Target] = [
            (node, "operation", lambda operation: ObeyedGraphCall(backend, operation))
            for node in nodes
        ]
        for layer in leak_layers:
            wrapper = _both(stop.wrap, inference_call) if id(layer) in forced else stop.wrap
            targets.append((layer, "call", wrapper))
        targets += [(each, "call", inference_call) for each in layers if id(each) not in with_stop]
        targets += [(module, "forward", inference_forward(module)) for module in modules]
        self._targets = targets

    def __enter__(self) -> ForcedInference:
        wrap_all(self._targets, who=self)
        return self

    def __exit__(self, *exception: Any) -> None:
        unwrap_all(self._targets, who=self)


class CallStarts:
    """Context manager: a function runs whenever the `call` of one of some layers begins.

    Args:
        layers: the layers.
        starts: the function.
    """

    def __init__(self, layers: Sequence[Any], starts: Callable[[], None]) -> None:
        def wrap(call: Any) -> Any:
            def call_noted(*args: Any, **kwargs: Any) -> Any:
                starts()
                return call(*args, **kwargs)

            call_noted.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
            return call_noted

        self._targets: List[Target] = [(layer, "call", wrap) for layer in layers]

    def __enter__(self) -> CallStarts:
        wrap_all(self._targets, who=self)
        return self

    def __exit__(self, *exception: Any) -> None:
        unwrap_all(self._targets, who=self)


def _both(outer: Wrapper, inner: Wrapper) -> Wrapper:
    return lambda call: outer(inner(call))


def inference_call(call: Any) -> Any:
    """Wrap a layer's `call` so that it gets `training=False`; unchanged if it takes none."""
    index = training_position(call)
    if index < 0:
        return call

    def call_in_inference_mode(*args: Any, **kwargs: Any) -> Any:
        if len(args) > index:
            args = (*args[:index], False, *args[index + 1 :])
        else:
            kwargs["training"] = False
        return call(*args, **kwargs)

    call_in_inference_mode.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
    return call_in_inference_mode


def inference_forward(module: Any) -> Wrapper:
    """Return a wrapper of the `forward` of a torch BN that runs it as after `eval()`.

    The flag of the module is restored after each call.
    """

    def wrap(forward: Any) -> Any:
        def forward_in_inference_mode(*args: Any, **kwargs: Any) -> Any:
            before = module.training
            module.training = False
            try:
                return forward(*args, **kwargs)
            finally:
                module.training = before

        return forward_in_inference_mode

    return wrap


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

        # Keras reads the signature to decide what to pass.
        call_without_leak.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
        return call_without_leak
