"""Write down how each BN is called in a real training step.

While a `CallTracer` is open, the `__call__` of this Keras's base layer class is replaced by one
that keeps a stack of the calls under way, and the `call` of each watched BN by one that notes
the `training` value that arrives. Nothing is computed or changed; both are put back on exit.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from typing import Any, ClassVar, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from keras_bnguard.backends.patches.attribute_patches import unwrap_all, wrap_all
from keras_bnguard.backends.patches.call_values import plain, values_per_channel
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.signatures import training_position
from keras_bnguard.errors import FaultBarrier, fail_safe
from keras_bnguard.records import CallSite
from keras_bnguard.records.ids import LayerId, layer_id

_LOCK = threading.RLock()


class _Frame:
    __slots__ = ("explicit", "layer", "passed_false", "resolved", "switched_by", "written")

    def __init__(self, layer: Any, explicit: Any, resolved: Any) -> None:
        self.layer = layer
        self.explicit = explicit
        self.resolved = resolved
        self.passed_false: Optional[Any] = None
        self.switched_by: Optional[Any] = None
        self.written: Any = None


class CallTracer:
    """Context manager that fills `sites` with what it saw, by path of the BN.

    Args:
        backend: the adapter. model: the outermost model. handles: the BN to watch.
        paths: path of every layer by id, for naming.

    Attributes:
        sites: what was seen. outermost: calls that no other call was around.
        updates: path of a BN -> its calls in training mode, by the graph that was traced. Where a
            step is traced twice, each graph has all of them; None outside a graph of TensorFlow.
        barrier: notes internal errors inside the user's step; after one, nothing more is traced.
    """

    def __init__(
        self, backend: Any, model: Any, handles: Sequence[NormHandle], paths: Mapping[LayerId, str]
    ) -> None:
        self._backend = backend
        self._model = model
        self._paths = paths
        self._by_layer: Dict[int, List[NormHandle]] = {}
        for handle in handles:
            self._by_layer.setdefault(id(handle.layer), []).append(handle)
        self._layers = list({id(h.layer): h.layer for h in handles}.values())
        self._local = threading.local()
        self._functional: Dict[int, bool] = {}
        self._written: Dict[int, Dict[int, Set[Optional[bool]]]] = {}
        self.sites: Dict[str, List[CallSite]] = {}
        self.updates: Dict[str, Dict[Optional[int], int]] = {}
        self._graphs: Dict[int, Any] = {}  # Kept while open, so that no id is used again.
        self.outermost = 0
        self.barrier = FaultBarrier(warns=False)  # Whoever opened the tracer reports its error.

    # ------------------------------------------------------------ installation
    def __enter__(self) -> CallTracer:
        self._install()
        return self

    def __exit__(self, *exception: Any) -> None:
        unwrap_all([(owner, "call") for owner in (self._model, *self._layers)], who=self)
        _WatchedCalls.leave(self._backend.keras.layers.Layer, self)
        self._graphs.clear()

    @fail_safe()
    def _install(self) -> None:
        _WatchedCalls.enter(self._backend.keras.layers.Layer, self)
        targets = [(self._model, "call", self._rooted)]
        targets += [(each, "call", functools.partial(self._noted, each)) for each in self._layers]
        wrap_all(targets, who=self, inner=True)

    # --------------------------------------------------------------- recording
    def _stack(self) -> List[_Frame]:
        return self._local.__dict__.setdefault("stack", [])  # type: ignore[no-any-return]

    def outer(self, original: Any, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """A layer's `__call__`, with the stack kept around it."""
        frame = self._push(layer, kwargs.get("training"))
        try:
            return original(layer, *args, **kwargs)
        finally:
            if frame is not None:
                self._pop(frame)

    @fail_safe()
    def _push(self, layer: Any, written: Any) -> _Frame:
        stack = self._stack()
        parent = stack[-1] if stack else None
        graph_context = parent.resolved if parent is not None else None
        if (
            parent is not None
            and self._is_graph(parent.layer)
            and (
                plain(written) == plain(graph_context)
                or plain(written) not in self._written_in(parent.layer, layer)
            )
        ):
            # Keras's graph walk hands on its own value, or the default of `call`; nobody wrote it.
            written = None
        resolved = written if written is not None else graph_context
        frame = _Frame(layer, None if layer is self._model else written, resolved)
        frame.written = written
        stack.append(frame)
        if parent is None:
            self.outermost += 1
        return frame

    @fail_safe()
    def _pop(self, frame: _Frame) -> None:
        stack = self._stack()
        stack.pop()
        if not stack:
            return
        parent = stack[-1]
        if frame.passed_false is not None and parent.passed_false is None:
            parent.passed_false = frame.passed_false
        if _is_false(frame.written):
            parent.passed_false = frame.layer
        if self._backend.graph.defaults_to_training(frame.layer) and frame.written is None:
            parent.switched_by = frame.layer
        elif frame.switched_by is not None:
            parent.switched_by = frame.switched_by

    def _rooted(self, call: Any) -> Any:
        """The model's own `call`: JAX's stateless step enters it without `__call__`."""

        def call_rooted(*args: Any, **kwargs: Any) -> Any:
            frame = self._root(kwargs.get("training"))
            try:
                return call(*args, **kwargs)
            finally:
                if frame is not None:
                    self._pop(frame)

        call_rooted.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
        return call_rooted

    @fail_safe()
    def _root(self, training: Any) -> Optional[_Frame]:
        stack = self._stack()
        if any(frame.layer is self._model for frame in stack):
            return None
        frame = _Frame(self._model, None, training)
        stack.append(frame)
        self.outermost += 1
        return frame

    def _written_in(self, graph: Any, layer: Any) -> Set[Optional[bool]]:
        """The values of `training` that the calls of a layer in a graph were written with."""
        if id(graph) not in self._written:
            found: Dict[int, Set[Optional[bool]]] = {}
            for node, called in self._backend.graph.nodes(graph):
                value = self._backend.graph.node_training(node)
                found.setdefault(id(called), set()).add(value)
            self._written[id(graph)] = found
        return self._written[id(graph)].get(id(layer), set())

    def _is_graph(self, layer: Any) -> bool:
        key = id(layer)
        if key not in self._functional:
            self._functional[key] = self._backend.graph.is_functional(layer)
        return self._functional[key]

    def _noted(self, layer: Any, call: Any) -> Any:
        index = training_position(call)

        def call_noted(*args: Any, **kwargs: Any) -> Any:
            arrived = kwargs.get("training")
            if index >= 0 and len(args) > index:
                arrived = args[index]
            self._note(layer, arrived, args[0] if args else None)
            with self._modules_noted(layer, arrived):
                return call(*args, **kwargs)

        call_noted.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
        return call_noted

    @contextlib.contextmanager
    def _modules_noted(self, layer: Any, arrived: Any) -> Iterator[None]:
        """Note the calls of torch modules inside a layer, with the inputs that they get."""
        modules = [each for each in self._by_layer[id(layer)] if each.module is not None]
        seen: Set[int] = set()
        hooks = [self._hook(handle, arrived, seen) for handle in modules]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        # A module may be run past its own `__call__`.
        self._note_call([each for each in modules if id(each) not in seen], arrived, None)

    def _hook(self, handle: NormHandle, arrived: Any, seen: Set[int]) -> Any:
        def noted(module: Any, args: Any) -> None:
            seen.add(id(handle))
            self._note_call([handle], arrived, args[0] if args else None)

        return handle.module.register_forward_pre_hook(noted)  # type: ignore[union-attr]

    def _note(self, layer: Any, arrived: Any, inputs: Any) -> None:
        """Note the call of a BN, or of a layer with BN in it that are no modules of torch."""
        handles = [handle for handle in self._by_layer[id(layer)] if handle.module is None]
        self._note_call(handles, arrived, inputs)

    @fail_safe()
    def _note_call(self, handles: Sequence[NormHandle], arrived: Any, inputs: Any) -> None:
        if not handles:
            return
        layer = handles[0].layer
        stack = self._stack()
        explicit = next((f.explicit for f in reversed(stack) if f.explicit is not None), None)
        leaked_from, switched_by = self._by_leak(stack, explicit, plain(arrived))
        trace = self._trace_of(inputs)
        for handle in handles:
            axis = 1 if handle.module is not None else getattr(layer, "axis", -1)
            site = CallSite(
                explicit=plain(explicit),
                arrived=plain(arrived),
                leaked_from=leaked_from,
                switched_by=switched_by,
                values_per_channel=values_per_channel(axis, inputs),
                values_per_row=values_per_channel(axis, inputs, first_axis=1),
                flag=bool(layer.trainable),
                surrounding=plain(stack[-1].resolved) if stack else None,
            )
            found = self.sites.setdefault(handle.path, [])
            if site not in found:
                found.append(site)
            if site.arrived is True or site.arrived == "tensor":
                counts = self.updates.setdefault(handle.path, {})
                counts[trace] = counts.get(trace, 0) + 1

    def _trace_of(self, inputs: Any) -> Optional[int]:
        graph = getattr(inputs, "graph", None)
        if graph is None:
            return None
        self._graphs[id(graph)] = graph
        return id(graph)

    def _by_leak(
        self, stack: List[_Frame], explicit: Any, arrived: Any
    ) -> Tuple[Optional[str], Optional[str]]:
        """Paths of the layers whose explicit False, or default True, reached here by a leak."""
        if not stack or explicit is not None:
            return None, None
        wanted = plain(stack[-1].resolved)
        if wanted is not False and not arrived:
            for frame in reversed(stack[:-1]):
                if frame.passed_false is not None:
                    return self._paths.get(layer_id(frame.passed_false), "?"), None
        if not wanted and arrived is True:
            for frame in reversed(stack[:-1]):
                if frame.switched_by is not None:
                    return None, self._paths.get(layer_id(frame.switched_by), "?")
        return None, None


class _WatchedCalls:
    """The base layer class of one Keras while tracers are open: one hook serves them all."""

    _open: ClassVar[Dict[type, _WatchedCalls]] = {}

    def __init__(self, owner: type) -> None:
        self.owner = owner
        self.original = original = owner.__call__
        self.tracers: Tuple[CallTracer, ...] = ()
        mine = self

        @functools.wraps(original)
        def watched(layer: Any, *args: Any, **kwargs: Any) -> Any:
            run = original
            for tracer in mine.tracers:
                run = functools.partial(tracer.outer, run)
            return run(layer, *args, **kwargs)

        # functools.wraps also gives it Keras's module, so that AutoGraph, which leaves
        # Keras's own code alone, leaves this alone too.
        del watched.__wrapped__
        self.installed = watched
        owner.__call__ = watched  # type: ignore[method-assign]

    @classmethod
    def enter(cls, owner: type, tracer: CallTracer) -> None:
        with _LOCK:
            watched = cls._open.get(owner)
            if watched is None:
                watched = cls._open[owner] = cls(owner)
            watched.tracers = (*watched.tracers, tracer)

    @classmethod
    def leave(cls, owner: type, tracer: CallTracer) -> None:
        with _LOCK:
            watched = cls._open.get(owner)
            if watched is None:
                return
            watched.tracers = tuple(other for other in watched.tracers if other is not tracer)
            if not watched.tracers:
                del cls._open[owner]
                if owner.__call__ is watched.installed:
                    owner.__call__ = watched.original  # type: ignore[method-assign]


def _is_false(value: Any) -> bool:
    return plain(value) is False
