"""ForcedInference layers in inference mode for the length of one trace or one eager step.

While a `ForcedInference` is open, the `call` of each held layer is replaced on the instance by one that
passes `training=False`. Everything is put back in `__exit__`; entering the same hold again
(replica threads) is counted, another hold wraps once more, and the last to leave restores. A
traced step keeps the effect and costs nothing extra.
"""

from __future__ import annotations

import inspect
import threading
from typing import Any, Callable, Dict, List, Sequence, Tuple

_LOCK = threading.RLock()
_MISSING = object()


class _Patched:
    """One replaced attribute: what was there, and who wraps it, innermost first."""

    def __init__(self, owner: Any, name: str) -> None:
        self.owner, self.name = owner, name
        self.before = owner.__dict__.get(name, _MISSING)
        self.original = getattr(owner, name)
        self.wrappers: Dict[int, List[Any]] = {}

    def put(self) -> None:
        """Build the chain anew; without wrappers, put back what was there."""
        if self.wrappers:
            value = self.original
            for entry in sorted(self.wrappers.values(), key=lambda entry: entry[2]):
                value = entry[1](value)
            object.__setattr__(self.owner, self.name, value)
        elif self.before is _MISSING:
            object.__delattr__(self.owner, self.name)
        else:
            object.__setattr__(self.owner, self.name, self.before)


class _Patches:
    """Instance attributes replaced by this package, by whom, and what was there.

    `who` tells a second wrapper (a hold inside a hold, a spy around a step that holds) from
    the same one entered again (replica threads), which is only counted.
    """

    def __init__(self) -> None:
        self._open: Dict[Tuple[int, str], _Patched] = {}

    def enter(
        self, owner: Any, name: str, make: Callable[[Any], Any], who: Any, inner: bool = False
    ) -> None:
        """Wrap an attribute; `inner`: below every wrapper that is not, whichever came first."""
        with _LOCK:
            patched = self._open.get((id(owner), name))
            if patched is None:
                patched = _Patched(owner, name)
            entry = patched.wrappers.get(id(who))
            if entry is not None:
                entry[0] += 1
                return
            patched.wrappers[id(who)] = [1, make, not inner, who]
            try:
                patched.put()
            except BaseException:
                del patched.wrappers[id(who)]
                if patched.wrappers:
                    patched.put()
                raise
            self._open[id(owner), name] = patched

    def leave(self, owner: Any, name: str, who: Any) -> None:
        with _LOCK:
            patched = self._open.get((id(owner), name))
            entry = None if patched is None else patched.wrappers.get(id(who))
            if patched is None or entry is None:
                return
            entry[0] -= 1
            if entry[0]:
                return
            del patched.wrappers[id(who)]
            if not patched.wrappers:
                del self._open[id(owner), name]
            patched.put()

    def count(self) -> int:
        return len(self._open)


_PATCHES = _Patches()


def open_patches() -> int:
    """How many instance attributes are replaced right now; 0 outside every hold."""
    return _PATCHES.count()


def _training_index(call: Any) -> int:
    """Position of `training` among a bound call's parameters, -1 if it takes none by name."""
    try:
        names = list(inspect.signature(call).parameters)
    except (TypeError, ValueError):
        return -1
    return names.index("training") if "training" in names else -1


def held_call(call: Any) -> Any:
    """A layer's `call` that always gets `training=False`; unchanged if it takes no such thing."""
    index = _training_index(call)
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


def held_forward(module: Any) -> Callable[[Any], Any]:
    """For a torch BN: a `forward` that runs as after `eval()` and leaves the flag as it was."""

    def make(forward: Any) -> Any:
        def forward_in_inference_mode(*args: Any, **kwargs: Any) -> Any:
            before = module.training
            module.training = False
            try:
                return forward(*args, **kwargs)
            finally:
                module.training = before

        return forward_in_inference_mode

    return make


class GraphCallHeld:
    """Stands in for the layer of a graph node that was written with `training=False`.

    Keras asks a node's layer whether it takes `training` before it overrides what was written;
    this one says no, so the written False arrives. The caller's value is put back afterwards.
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

    Keras 3 carries `training` in one object per outermost call and does not put it back when
    an inner layer returns. Each wrapped `call` notes the value it began with; when an inner
    one returns, the value of the layer around it is put back.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._local = threading.local()

    def wrap(self, call: Any) -> Any:
        backend, local = self._backend, self._local

        def call_without_leak(*args: Any, **kwargs: Any) -> Any:
            stack = local.__dict__.setdefault("stack", [])
            context = backend.step.call_context()
            if context is None and kwargs.get("training") is not None:
                # JAX's stateless step enters `call` directly, so nothing carries `training`
                # to the layers inside, as it does on the other backends.
                with backend.step.opened_call_context(kwargs["training"]):
                    return call_without_leak(*args, **kwargs)
            stack.append(getattr(context, "training", None))
            try:
                return call(*args, **kwargs)
            finally:
                stack.pop()
                context = backend.step.call_context()
                if stack and context is not None:
                    context.training = stack[-1]

        # Keras looks at the signature when it decides what to pass.
        call_without_leak.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
        return call_without_leak


class ForcedInference:
    """Context manager: hold layers, torch modules and graph calls; stop leaks.

    Args:
        backend: the adapter of the model.
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
        self._backend = backend
        held = {id(layer) for layer in layers}
        stop = LeakStop(backend)
        self._targets: List[Tuple[Any, str, Callable[[Any], Any]]] = []
        self._targets += [
            (node, "operation", lambda op: GraphCallHeld(backend, op)) for node in nodes
        ]
        self._targets += [
            (layer, "call", (lambda c: stop.wrap(held_call(c))) if id(layer) in held else stop.wrap)
            for layer in leak_layers
        ]
        stopped = {id(layer) for layer in leak_layers}
        self._targets += [(la, "call", held_call) for la in layers if id(la) not in stopped]
        self._targets += [(m, "forward", held_forward(m)) for m in modules]
        self._entered: List[Tuple[Any, str]] = []

    def __enter__(self) -> ForcedInference:
        entered: List[Tuple[Any, str]] = []
        try:
            for owner, name, make in self._targets:
                _PATCHES.enter(owner, name, make, self)
                entered.append((owner, name))
        except BaseException:
            for owner, name in reversed(entered):
                _PATCHES.leave(owner, name, self)
            raise
        self._entered += entered
        return self

    def __exit__(self, *exception: Any) -> None:
        for _ in range(len(self._targets)):
            owner, name = self._entered.pop()
            _PATCHES.leave(owner, name, self)
