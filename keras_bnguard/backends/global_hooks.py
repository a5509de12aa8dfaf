"""Stand in front of `fit`, `evaluate`, optimizers and so on of every Keras, and go away again.

Each replaced function calls the original with the same arguments and returns what it returns.
The `Watcher` is called before and after; its methods never raise.
`uninstall` takes off every hook that is still in place (`patches.class_patches`); one that a user
stands in front of only passes on from then on.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from keras_bnguard.backends.call_stack import user_line
from keras_bnguard.backends.patches import model_hooks
from keras_bnguard.backends.patches.class_patches import ClassPatches, owner_of, stands_for
from keras_bnguard.backends.patches.model_calls import watch_calls
from keras_bnguard.backends.patches.source_lines import HISTORIES, SourceHistory
from keras_bnguard.backends.patches.watcher import NoWatcher, Watcher
from keras_bnguard.backends.registry import loaded_backends, unsupported_kerases

_LOCK = threading.RLock()

BEFORE_CALLBACKS = 5
"""Arguments of `fit` that may stand before `callbacks` without a name."""


class _Installed:
    """Everything put in place on one Keras."""

    def __init__(self, backend: Any, watcher: Watcher) -> None:
        self.backend = backend
        self.watcher: Watcher = watcher
        self.patches = ClassPatches()
        self.history = SourceHistory(backend, watcher.changed)
        self.hook: Any = None

    def install(self) -> None:
        """Put every part in place; one that cannot be leaves the others where they are."""
        parts = {
            "compile() and trainable": self._install_model_hooks,
            "fit": self._install_fit,
            "train_on_batch": self._install_train_on_batch,
            "evaluate and predict": self._install_inference,
            "calls with training=True": self._install_calls,
            "loading of weights": self._install_loaders,
            "custom training loops": self._install_updates,
            "lines of training= in a graph": self._install_nodes,
        }
        for what, put in parts.items():
            try:
                put()
            except Exception as error:
                self.watcher.not_watched(f"{what} of {self.backend.package}", error)

    def _install_model_hooks(self) -> None:
        model_hooks.start(self.backend, self.history)
        HISTORIES[id(self.backend.keras)] = self.history

    def _install_fit(self) -> None:
        for model in self._models():
            self._replace(model, "fit", self._fit)

    def _install_train_on_batch(self) -> None:
        for model in self._models():
            self._replace(model, "train_on_batch", self._train_on_batch)

    def _install_inference(self) -> None:
        for model in self._models():
            for name in ("evaluate", "predict"):
                self._replace(model, name, functools.partial(self._inference, name))

    def _install_calls(self) -> None:
        watch_calls(self.patches, self.backend.keras.Model, lambda: self.watcher)

    def _models(self) -> List[type]:
        return [self.backend.keras.Model, *self.backend.step.graph_mode_models()]

    def _install_loaders(self) -> None:
        keras = self.backend.keras
        self._replace(keras.layers.Layer, "set_weights", self._load)
        self._replace(keras.Model, "load_weights", self._load)

    def _install_updates(self) -> None:
        self.hook = self.backend.step.hook_framework_optimizers(self._framework_step)
        wrappers = {
            "apply_gradients": self._apply_pairs,
            "apply": self._apply,
            "stateless_apply": self._stateless,
        }
        for owner, name in self.backend.step.update_methods():
            self._replace(owner, name, wrappers[name], runs_in_graphs=True)

    def _install_nodes(self) -> None:
        node = self.backend.graph.node_class()
        if node is not None:
            self._replace(node, "__init__", self._node)

    def uninstall(self) -> None:
        self.watcher = NoWatcher(self.patches)
        self.patches.take_off()
        if self.hook is not None:
            self.hook.remove()
        HISTORIES.pop(id(self.backend.keras), None)
        model_hooks.stop(self.backend, self.history)

    def _replace(
        self,
        owner: type,
        name: str,
        wrapper: Callable[[Any], Any],
        runs_in_graphs: bool = False,
    ) -> None:
        owner = owner_of(owner, name)  # What Keras compares with is replaced too.
        if getattr(owner, name, None) is not None:
            self.patches.put(
                owner,
                name,
                lambda original: stands_for(original, wrapper(original), runs_in_graphs),
            )

    # ---------------------------------------------------------------- wrappers
    def _fit(self, original: Any) -> Any:
        signature = inspect.signature(original)

        def watched_fit(model: Any, *args: Any, **kwargs: Any) -> Any:
            place = _callbacks_of(signature, model, args, kwargs)
            if place is None:
                return original(model, *args, **kwargs)
            callbacks, done = self.watcher.around_fit(model, place.value)
            args, kwargs = place.put(callbacks)
            try:
                return original(model, *args, **kwargs)
            finally:
                done()

        return watched_fit

    def _train_on_batch(self, original: Any) -> Any:
        def watched_train_on_batch(model: Any, *args: Any, **kwargs: Any) -> Any:
            tracer, done = self.watcher.before_batch(model)
            if tracer is None:
                result = original(model, *args, **kwargs)
            else:
                with tracer:
                    result = original(model, *args, **kwargs)
            done()
            return result

        return watched_train_on_batch

    def _inference(self, name: str, original: Any) -> Any:
        def watched_inference(model: Any, *args: Any, **kwargs: Any) -> Any:
            done = self.watcher.before_inference(model, name)
            try:
                return original(model, *args, **kwargs)
            finally:
                done()

        return watched_inference

    def _load(self, original: Any) -> Any:
        def watched_load(layer: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return original(layer, *args, **kwargs)
            finally:
                self.watcher.after_load(layer)

        return watched_load

    def _apply_pairs(self, original: Any) -> Any:
        def watched_apply_gradients(
            optimizer: Any, grads_and_vars: Any, *args: Any, **kwargs: Any
        ) -> Any:
            pairs = grads_and_vars
            if not isinstance(pairs, (list, tuple)):
                pairs = list(pairs)  # Usually a zip, which can be read only once.
            self.watcher.before_apply(optimizer, _second_of(pairs), False)
            result = original(optimizer, pairs, *args, **kwargs)
            self.watcher.after_apply(optimizer)
            return result

        return watched_apply_gradients

    def _apply(self, original: Any) -> Any:
        def watched_apply(
            optimizer: Any, grads: Any, trainable_variables: Any = None, **kwargs: Any
        ) -> Any:
            if trainable_variables is None:
                kept = getattr(optimizer, "_trainable_variables", None)
                self.watcher.before_apply(optimizer, kept, False)
                result = original(optimizer, grads, **kwargs)
            else:
                if not isinstance(trainable_variables, (list, tuple)):
                    trainable_variables = list(trainable_variables)
                self.watcher.before_apply(optimizer, trainable_variables, False)
                result = original(optimizer, grads, trainable_variables, **kwargs)
            self.watcher.after_apply(optimizer)
            return result

        return watched_apply

    def _stateless(self, original: Any) -> Any:
        def watched_stateless_apply(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            kept = getattr(optimizer, "_trainable_variables", None)
            self.watcher.before_apply(optimizer, kept, True)
            return original(optimizer, *args, **kwargs)

        return watched_stateless_apply

    def _node(self, original: Any) -> Any:
        """Called while a graph is built, never in a step: where `training=` is written."""
        backend, history = self.backend, self.history

        def noted_init(node: Any, *args: Any, **kwargs: Any) -> None:
            original(node, *args, **kwargs)
            with contextlib.suppress(Exception):
                if backend.graph.node_training(node) is not None:
                    history.after_call(node, user_line(backend.package))

        return noted_init

    def _framework_step(self, optimizer: Any, variables: List[Any]) -> None:
        """An optimizer of the framework itself, not of Keras, has taken a step."""
        with contextlib.suppress(Exception):
            self.watcher.before_apply(optimizer, variables, False)
            self.watcher.after_apply(optimizer)


class _Callbacks:
    """The `callbacks` of one call of `fit`, and the call with others in their place."""

    def __init__(self, bound: inspect.BoundArguments, arguments: Dict[str, Any]) -> None:
        self._bound, self._arguments = bound, arguments
        self.value = arguments.get("callbacks")

    def put(self, callbacks: Any) -> Tuple[Tuple[Any, ...], Dict[str, Any]]:
        if callbacks is not self.value:
            self._arguments["callbacks"] = callbacks
        return self._bound.args[1:], self._bound.kwargs


def _callbacks_of(
    signature: inspect.Signature, model: Any, args: Sequence[Any], kwargs: Dict[str, Any]
) -> Optional[_Callbacks]:
    try:
        bound = signature.bind(model, *args, **kwargs)
    except TypeError:
        return None  # The original raises, with Keras's own message.
    if "callbacks" in signature.parameters:
        return _Callbacks(bound, bound.arguments)
    # A patch of somebody else, which passes on what it gets.
    rest = [each.name for each in signature.parameters.values() if each.kind is each.VAR_KEYWORD]
    if not rest or len(args) > BEFORE_CALLBACKS:
        return None
    return _Callbacks(bound, bound.arguments.setdefault(rest[0], {}))


def _second_of(pairs: Sequence[Any]) -> List[Any]:
    """The variables of (gradient, variable) pairs; none where they are no such pairs."""
    try:
        return [variable for _, variable in pairs]
    except (TypeError, ValueError):
        return []


# ------------------------------------------------------------- what is in place
_INSTALLED: Dict[int, _Installed] = {}


def install(watcher: Watcher) -> None:
    """Put the hooks on every Keras that is imported; those that have them keep them."""
    with _LOCK:
        for backend in _complete_backends():
            if id(backend.keras) not in _INSTALLED:
                installed = _INSTALLED[id(backend.keras)] = _Installed(backend, watcher)
                installed.install()
        for package, error in unsupported_kerases().items():
            watcher.not_watched(package, error)


def enter_fit(backend: Any, model: Any, callbacks: Any) -> Tuple[Any, Callable[[], None]]:
    """As a call of `fit` does where hooks are in place, for several that are one training.

    Returns:
        The callbacks to train with, and what to call when the training is left.
    """
    installed = _INSTALLED.get(id(backend.keras))
    if installed is None:
        return callbacks, lambda: None
    return installed.watcher.around_fit(model, callbacks)


def uninstall() -> None:
    """Take every hook off again; no-op where nothing is installed."""
    with _LOCK:
        for installed in list(_INSTALLED.values()):
            installed.uninstall()
        _INSTALLED.clear()


def _complete_backends() -> List[Any]:
    return [
        backend
        for backend in loaded_backends()
        if hasattr(backend.keras, "Model") and hasattr(backend.keras, "optimizers")
    ]
