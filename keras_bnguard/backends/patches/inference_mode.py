"""Force layers into inference mode for the length of one trace or one eager step.

While a `ForcedInference` is open, the `call` of each of its layers is replaced on the instance
by one that passes `training=False`. `__exit__` restores everything; entering the same one again
(replica threads) is counted, another one wraps once more, and the last to leave restores. A
traced step keeps the effect and costs nothing extra.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from typing import Any, Callable, Dict, Iterator, List, Optional, Protocol, Sequence, Tuple

from keras_bnguard.backends.patches.attribute_patches import (
    Target,
    Wrapper,
    unwrap_all,
    wrap_all,
)
from keras_bnguard.backends.patches.training_arguments import LeakStop, ObeyedGraphCall
from keras_bnguard.backends.signatures import in_place_of, takes_keywords, training_position


class ForcedInference:
    """Context manager: layers, torch modules and graph calls run in inference mode.

    Args:
        backend: the backend of the model.
        layers: Keras layers whose `call` gets `training=False`.
        modules: torch BN modules whose `forward` runs in inference mode.
        nodes: graph nodes whose written `training=False` is to be obeyed.
        leak_layers: every layer of the model, where leaks are to be stopped; else empty.
        outer_layers: layers around forced BN whose calls are checked, too.
        observer: decides how forced calls are made. Defaults to None: `training=False` is passed.
    """

    def __init__(
        self,
        backend: Any,
        layers: Sequence[Any] = (),
        modules: Sequence[Any] = (),
        nodes: Sequence[Any] = (),
        leak_layers: Sequence[Any] = (),
        outer_layers: Sequence[Any] = (),
        observer: Optional[CallObserver] = None,
    ) -> None:
        wrappers: Dict[int, List[Wrapper]] = {}
        by_id = {id(layer): layer for layer in (*layers, *outer_layers, *leak_layers)}
        for layer in layers:
            wrappers.setdefault(id(layer), []).append(ForcedCall(backend, layer, observer).wrap)
        if observer is not None:
            for layer in outer_layers:
                watched = WatchedCall(backend, layer, observer)
                wrappers.setdefault(id(layer), []).append(watched.wrap)
        stop = LeakStop(backend)
        for layer in leak_layers:
            wrappers.setdefault(id(layer), []).append(stop.wrap)
        targets: List[Target] = [
            (node, "operation", lambda operation: ObeyedGraphCall(backend, operation))
            for node in nodes
        ]
        targets += [(by_id[key], "call", _chain(each)) for key, each in wrappers.items()]
        targets += [(each, "forward", inference_forward(each, observer)) for each in modules]
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

            return in_place_of(call, call_noted)

        self._targets: List[Target] = [(layer, "call", wrap) for layer in layers]

    def __enter__(self) -> CallStarts:
        wrap_all(self._targets, who=self)
        return self

    def __exit__(self, *exception: Any) -> None:
        unwrap_all(self._targets, who=self)


def _chain(wrappers: Sequence[Wrapper]) -> Wrapper:
    """One wrapper of several, the innermost first."""
    return lambda call: functools.reduce(lambda inner, wrap: wrap(inner), wrappers, call)


Arguments = Tuple[Tuple[Any, ...], Dict[str, Any]]
"""Positional and keyword arguments of a call."""

Way = Callable[[Any, Tuple[Any, ...], Dict[str, Any]], Arguments]
"""A way to make arguments of a call those of a call in inference mode."""


def training_false(call: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Arguments:
    """Pass `training=False` where the call has this parameter, or was given that argument."""
    index = training_position(call)
    if 0 <= index < len(args):
        return (*args[:index], False, *args[index + 1 :]), kwargs
    if index >= 0 or "training" in kwargs:
        return args, {**kwargs, "training": False}
    return args, kwargs


def training_false_as_keyword(
    call: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]
) -> Arguments:
    """Pass `training=False` also to a call that takes any keyword."""
    if training_position(call) < 0 and takes_keywords(call):
        return args, {**kwargs, "training": False}
    return training_false(call, args, kwargs)


def no_true(call: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Arguments:
    """Pass False in place of every True as well, whatever the name of the parameter is."""
    args, kwargs = training_false(call, args, kwargs)
    plain = tuple(False if value is True else value for value in args)
    return plain, {key: False if value is True else value for key, value in kwargs.items()}


WAYS: Tuple[Way, ...] = (training_false, training_false_as_keyword, no_true)
"""Every way, the one to try first first."""


class CallObserver(Protocol):
    """Decides how forced calls are made; raises where one does not run in inference mode."""

    def choose_way(self, owner: Any, call: Any, args: Any, kwargs: Any) -> Way:
        """The way for calls of a layer, or of a torch module, with arguments like these."""

    def check_around(self, owner: Any, call: Any, args: Any, kwargs: Any) -> None:
        """A layer around forced BN is called with these arguments."""


class ForcedCall:
    """The `call` of one layer in inference mode; made once, it wraps the call at every entry.

    Args:
        backend: the backend.
        layer: the layer.
        observer: chooses the way at the first call with arguments like these. Defaults to None: the
            first way is taken.
    """

    def __init__(self, backend: Any, layer: Any, observer: Optional[CallObserver] = None) -> None:
        self._backend, self._layer, self._observer = backend, layer, observer
        self._ways: Dict[Any, Way] = {}

    def wrap(self, call: Any) -> Any:
        """Wrap the `call` of the layer."""
        step, arguments = self._backend.step, self._backend.step.outside_autograph(self.arguments)

        def call_in_inference_mode(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = arguments(call, args, kwargs)
            context = step.call_context()
            if context is None:
                return call(*args, **kwargs)
            before, context.training = context.training, False
            try:
                return call(*args, **kwargs)
            finally:
                context.training = before

        return in_place_of(call, call_in_inference_mode)

    def arguments(self, call: Any, args: Any, kwargs: Any) -> Arguments:
        """The arguments that make a call run in inference mode."""
        if self._observer is None:
            return training_false(call, args, kwargs)
        kind = (len(args), *kwargs, len(getattr(args[0], "shape", None) or ()) if args else 0)
        if kind not in self._ways:
            way = self._observer.choose_way(self._layer, call, args, kwargs)
            if is_measuring():
                return way(call, args, kwargs)
            self._ways[kind] = way
        return self._ways[kind](call, args, kwargs)


class WatchedCall:
    """The `call` of a layer around forced BN, which may use moments of the batch itself.

    Args:
        backend: the backend.
        layer: the layer.
        observer: checks the first call.
    """

    def __init__(self, backend: Any, layer: Any, observer: CallObserver) -> None:
        self._backend, self._layer, self._observer = backend, layer, observer
        self._seen = False

    def wrap(self, call: Any) -> Any:
        """Wrap the `call` of the layer."""
        check = self._backend.step.outside_autograph(self._check)

        def call_watched(*args: Any, **kwargs: Any) -> Any:
            check(call, args, kwargs)
            return call(*args, **kwargs)

        return in_place_of(call, call_watched)

    def _check(self, call: Any, args: Any, kwargs: Any) -> None:
        if not self._seen and not is_measuring():
            self._seen = True
            self._observer.check_around(self._layer, call, args, kwargs)


_MEASURING = threading.local()


def is_measuring() -> bool:
    """Return whether this thread is inside `measuring()`."""
    return getattr(_MEASURING, "depth", 0) > 0


@contextlib.contextmanager
def measuring() -> Iterator[None]:
    """Calls inside are forced as outside, and no observer sees them."""
    _MEASURING.depth = getattr(_MEASURING, "depth", 0) + 1
    try:
        yield
    finally:
        _MEASURING.depth -= 1


def inference_forward(module: Any, observer: Optional[CallObserver] = None) -> Wrapper:
    """Return a wrapper of the `forward` of a torch BN that runs it as after `eval()`.

    The flag of the module is restored after each call.

    Args:
        module: the BN.
        observer: checks the first call. Defaults to None.
    """
    checked = False

    def wrap(forward: Any) -> Any:
        def forward_in_inference_mode(*args: Any, **kwargs: Any) -> Any:
            nonlocal checked
            before = module.training
            module.training = False
            try:
                if observer is not None and not checked and not is_measuring():
                    checked = True
                    observer.choose_way(module, forward, args, kwargs)
                return forward(*args, **kwargs)
            finally:
                module.training = before

        return forward_in_inference_mode

    return wrap
