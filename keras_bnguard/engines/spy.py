"""Write down how each BN is called in a real training step.

While a `CallSpy` is open, the `__call__` of this Keras's base layer class is replaced by one
that keeps a stack of the calls under way, and the `call` of each watched BN by one that notes
the `training` value that arrives. Nothing is computed or changed; both are put back on exit.
"""

from __future__ import annotations

import functools
import inspect
import threading
from typing import Any, Dict, List, Optional, Sequence, Tuple

from keras_bnguard.engines.handles import NormHandle
from keras_bnguard.engines.holds import _PATCHES, _training_index
from keras_bnguard.records import CallSite

_LOCK = threading.RLock()


class _Frame:
    __slots__ = ("explicit", "layer", "resolved", "said_false", "switched_by")

    def __init__(self, layer: Any, explicit: Any, resolved: Any) -> None:
        self.layer = layer
        self.explicit = explicit
        self.resolved = resolved
        self.said_false: Optional[Any] = None
        self.switched_by: Optional[Any] = None


class CallSpy:
    """Context manager that fills `sites` with what it saw, by path of the BN.

    Args:
        engine: the adapter. model: the outermost model. handles: the BN to watch.
        paths: path of every layer by id, for naming.
    """

    def __init__(
        self, engine: Any, model: Any, handles: Sequence[NormHandle], paths: Dict[int, str]
    ) -> None:
        self._engine = engine
        self._model = model
        self._paths = paths
        self._by_layer: Dict[int, List[NormHandle]] = {}
        for handle in handles:
            self._by_layer.setdefault(id(handle.layer), []).append(handle)
        self._layers = {id(h.layer): h.layer for h in handles}
        self._local = threading.local()
        self._owner: Optional[type] = None
        self._original: Any = None
        self._functional: Dict[int, bool] = {}
        self.sites: Dict[str, List[CallSite]] = {}
        self.outermost = 0

    # ------------------------------------------------------------ installation
    def __enter__(self) -> CallSpy:
        with _LOCK:
            owner = self._engine.keras.layers.Layer
            original = owner.__call__
            spy = self

            @functools.wraps(original)
            def watched(layer: Any, *args: Any, **kwargs: Any) -> Any:
                return spy._outer(original, layer, args, kwargs)

            # functools.wraps also gives it Keras's module, so that AutoGraph, which leaves
            # Keras's own code alone, leaves this alone too.
            del watched.__wrapped__
            owner.__call__ = watched
            self._owner, self._original, self._installed = owner, original, watched
        _PATCHES.enter(self._model, "call", self._rooted)
        for layer in self._layers.values():
            _PATCHES.enter(layer, "call", functools.partial(self._noted, layer))
        return self

    def __exit__(self, *exception: Any) -> None:
        for layer in self._layers.values():
            _PATCHES.leave(layer, "call")
        _PATCHES.leave(self._model, "call")
        with _LOCK:
            if self._owner is not None and self._owner.__call__ is self._installed:
                self._owner.__call__ = self._original  # type: ignore[method-assign]
            self._owner = None

    # --------------------------------------------------------------- recording
    def _stack(self) -> List[_Frame]:
        return self._local.__dict__.setdefault("stack", [])  # type: ignore[no-any-return]

    def _outer(self, original: Any, layer: Any, args: Any, kwargs: Any) -> Any:
        stack = self._stack()
        parent = stack[-1] if stack else None
        written = kwargs.get("training")
        if parent is not None and self._is_graph(parent.layer) and written == parent.resolved:
            written = None  # Keras's graph walk hands its own value on; nobody wrote it.
        resolved = written if written is not None else (parent.resolved if parent else None)
        frame = _Frame(layer, None if layer is self._model else written, resolved)
        stack.append(frame)
        if parent is None:
            self.outermost += 1
        try:
            return original(layer, *args, **kwargs)
        finally:
            stack.pop()
            if parent is not None:
                if frame.said_false is not None and parent.said_false is None:
                    parent.said_false = frame.said_false
                if _is_false(written):
                    parent.said_false = layer
                if self._engine.defaults_to_training(layer) and written is None:
                    parent.switched_by = layer
                elif frame.switched_by is not None:
                    parent.switched_by = frame.switched_by

    def _rooted(self, call: Any) -> Any:
        """The model's own `call`: JAX's stateless step enters it without `__call__`."""

        def call_rooted(*args: Any, **kwargs: Any) -> Any:
            stack = self._stack()
            if any(frame.layer is self._model for frame in stack):
                return call(*args, **kwargs)
            stack.append(_Frame(self._model, None, kwargs.get("training")))
            self.outermost += 1
            try:
                return call(*args, **kwargs)
            finally:
                stack.pop()

        call_rooted.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
        return call_rooted

    def _is_graph(self, layer: Any) -> bool:
        key = id(layer)
        if key not in self._functional:
            self._functional[key] = self._engine.is_functional(layer)
        return self._functional[key]

    def _noted(self, layer: Any, call: Any) -> Any:
        index = _training_index(call)

        def call_noted(*args: Any, **kwargs: Any) -> Any:
            arrived = kwargs.get("training")
            if index >= 0 and len(args) > index:
                arrived = args[index]
            self._note(layer, arrived, args[0] if args else None)
            return call(*args, **kwargs)

        call_noted.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
        return call_noted

    def _note(self, layer: Any, arrived: Any, inputs: Any) -> None:
        stack = self._stack()
        explicit = next((f.explicit for f in reversed(stack) if f.explicit is not None), None)
        leaked_from, switched_by = self._by_leak(stack, explicit, _plain(arrived))
        for handle in self._by_layer[id(layer)]:
            site = CallSite(
                explicit=_plain(explicit),
                arrived=_plain(arrived),
                leaked_from=leaked_from,
                switched_by=switched_by,
                values_per_channel=_values_per_channel(layer, inputs),
                flag=bool(layer.trainable),
                around=_plain(stack[-1].resolved) if stack else None,
            )
            found = self.sites.setdefault(handle.path, [])
            if site not in found:
                found.append(site)

    def _by_leak(
        self, stack: List[_Frame], explicit: Any, arrived: Any
    ) -> Tuple[Optional[str], Optional[str]]:
        """Paths of the layers whose explicit False, or default True, reached here by a leak."""
        if not stack or explicit is not None:
            return None, None
        wanted = _plain(stack[-1].resolved)
        if wanted is not False and not arrived:
            for frame in reversed(stack[:-1]):
                if frame.said_false is not None:
                    return self._paths.get(id(frame.said_false), "?"), None
        if not wanted and arrived is True:
            for frame in reversed(stack[:-1]):
                if frame.switched_by is not None:
                    return None, self._paths.get(id(frame.switched_by), "?")
        return None, None


def _is_false(value: Any) -> bool:
    return _plain(value) is False


def _plain(value: Any) -> Any:
    """True, False or None as they are (0 and 1 too), "tensor" for anything else."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return bool(value)
    return "tensor"


def _values_per_channel(layer: Any, inputs: Any) -> Optional[int]:
    try:
        shape = [None if d is None else int(d) for d in inputs.shape]
        axis = getattr(layer, "axis", -1)
        axes = list(axis) if isinstance(axis, (list, tuple)) else [axis]
        drop = {int(a) % len(shape) for a in axes}
        rest = [d for i, d in enumerate(shape) if i not in drop]
        if any(d is None for d in rest):
            return None
        product = 1
        for d in rest:
            product *= int(d or 0)
        return product
    except Exception:
        return None
