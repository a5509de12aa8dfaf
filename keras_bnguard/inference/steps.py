"""The training step of a model that forces BN: whatever step runs, it runs with them forced.

`train_step` and `make_train_function` are hooked on the class of the model
(`backends.patches.method_hooks`). What a model gets from the hook is a function of its own, made
again whenever what is forced changes: JAX finds the trace of an old one otherwise.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from keras_bnguard.backends.patches.fit_scope import running_fit
from keras_bnguard.backends.patches.inference_mode import CallStarts, ForcedInference
from keras_bnguard.backends.patches.method_hooks import MethodHook, ModelHooks, hook_method
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.errors import FaultBarrier, UnsupportedModelError
from keras_bnguard.inference.contexts import make_forced_inference
from keras_bnguard.inference.proof import Proof
from keras_bnguard.inference.step_check import compare_first_steps
from keras_bnguard.model.forced_inference import (
    ForcedInferenceState,
    ForcesInStep,
    forces_in_step,
)
from keras_bnguard.model.kept import find_kept, forget, kept_with
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.records import Verification


class ForcedStep:
    """The training step of one model, and what it forces; kept with the model.

    A step in Python, as on torch, enters it at every batch, so the context manager is made
    again only when a flag or the set of layers has changed.
    """

    def __init__(self) -> None:
        self._functions: Dict[int, Callable[..., Any]] = {}
        self._structure: Tuple[Tuple[Any, bool], ...] = ()
        self._context: Optional[ForcedInference] = None
        self._paths: Tuple[str, ...] = ()
        self._norms: List[NormHandle] = []
        self._barrier = FaultBarrier(goes_on=True)

    def function(self, hook: MethodHook, make: Callable[[], Callable[..., Any]]) -> Any:
        """The replacement of a method; the same one until this object is forgotten.

        Args:
            hook: of the method.
            make: makes it.
        """
        if id(hook) not in self._functions:
            self._functions[id(hook)] = make()
        return self._functions[id(hook)]

    def paths(self, model: Any) -> Tuple[str, ...]:
        """Paths of the BN that the step forces, as flags and layers are now."""
        self._update(model)
        return self._paths

    def norms(self, model: Any) -> List[NormHandle]:
        """The BN that the step forces, as flags and layers are now."""
        self._update(model)
        return self._norms

    @contextlib.contextmanager
    def open(self, model: Any) -> Iterator[None]:
        """The BN are forced inside; also those that layers of the model make in their `build`.

        After an internal error they run as they would without this package.
        """
        with contextlib.ExitStack() as stack:
            with self._barrier:
                self._enter(model, stack)
            yield

    def _enter(self, model: Any, stack: contextlib.ExitStack) -> None:
        stack.enter_context(self._update(model))
        unbuilt = [layer for layer, _ in self._structure if not getattr(layer, "built", True)]
        if not unbuilt:
            return

        def renew() -> None:
            with self._barrier:
                before = self._context
                if self._update(model) is not before:
                    stack.enter_context(self._update(model))

        outside = backend_for(model).step.outside_autograph
        stack.enter_context(CallStarts(unbuilt, outside(renew)))

    def _update(self, model: Any) -> ForcedInference:
        structure = _structure(model)
        if self._context is None or not _same(structure, self._structure):
            snapshot = take_snapshot(model)
            self._paths = ForcedInferenceState.of(model).step_paths(snapshot, strict=False)
            self._structure = structure
            own = forces_in_step(model)
            proof = kept_with(model, Proof)
            self._norms = [h for h in snapshot.handles if h.path in set(self._paths)]
            on_failure = ForcedInferenceState.of(model).on_failure(model)
            proof.expect(snapshot.backend, self._norms, on_failure)
            self._context = make_forced_inference(
                snapshot, self._paths, obey_graph=own, stop_leaks=own, observer=proof
            )
        return self._context


def _structure(model: Any) -> Tuple[Tuple[Any, bool], ...]:
    layers = backend_for(model).graph.all_layers(model)
    return tuple((layer, bool(layer.trainable)) for layer in layers)


def _same(one: Tuple[Tuple[Any, bool], ...], other: Tuple[Tuple[Any, bool], ...]) -> bool:
    return len(one) == len(other) and all(
        a is b and flag == flag_b for (a, flag), (b, flag_b) in zip(one, other)
    )


def forced_in_step(model: Any) -> Tuple[str, ...]:
    """Paths of the BN that a model's step forces as its flags are now; () if it forces none."""
    return kept_with(model, ForcedStep).paths(model) if _has_forced_step(model) else ()


def forced_paths(model: Any) -> Tuple[str, ...]:
    """Paths of every BN this package forces into inference mode now, by step or by block."""
    in_blocks = ForcedInferenceState.of(model).block_paths()
    return tuple(dict.fromkeys((*forced_in_step(model), *in_blocks)))


def verification_of(model: Any) -> Mapping[str, Verification]:
    """What is known of each BN that a model's step forces, by path."""
    proof = find_kept(model, Proof)
    return {} if proof is None else proof.status


def hook_model_class(cls: type) -> None:
    """Hook a class whose models always force; for good.

    Args:
        cls: a subclass of `ForcesInStep`.
    """
    for name, bind in _BINDS.items():
        hook_method(cls, name, bind)
    for name in ("fit", "train_on_batch"):
        hook_method(cls, name, _bind_training)


def refuse_graph_mode(backend: Any) -> None:
    """Raise where models train without a `train_step`, so that nothing can be forced.

    Raises:
        UnsupportedModelError: TensorFlow runs in graph mode.
    """
    if backend.step.in_graph_mode():
        raise UnsupportedModelError(
            "inference mode cannot be forced in graph mode, as after "
            "tf.compat.v1.disable_eager_execution(): models have no training step there. Enable "
            "eager execution, or call the BN with training=False in the model itself."
        )


def renew_step(model: Any) -> None:
    """Have the next step of a model decide again which BN to force, and be traced again."""
    forget(model, ForcedStep)
    proof = find_kept(model, Proof)
    if proof is not None:
        proof.renew()
    if _has_forced_step(model):
        _HOOKS.add(model)
        _wrap_assigned_step(model)
    else:
        _HOOKS.remove(model)
        _unwrap_assigned_step(model)
        forget(model, Proof)
    step = backend_for(model).step
    if step.has_train_function(model) and running_fit(model) is not None:
        step.rebuild_train_function(model)  # Keras calls it for the next batch.
    else:
        step.drop_train_function(model)


def _norms_of(model: Any) -> List[NormHandle]:
    return kept_with(model, ForcedStep).norms(model)


def _has_forced_step(model: Any) -> bool:
    return isinstance(model, ForcesInStep) or not ForcedInferenceState.of(model).empty


def _bind_train_step(hook: MethodHook, model: Any, method: Callable[..., Any]) -> Any:
    if not _has_forced_step(model):
        return method
    return kept_with(model, ForcedStep).function(hook, lambda: _forced(model, method))


def _forced(model: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def train_step(*args: Any, **kwargs: Any) -> Any:
        with kept_with(model, ForcedStep).open(model):
            return method(*args, **kwargs)

    return train_step


def _bind_make_train_function(hook: MethodHook, model: Any, method: Callable[..., Any]) -> Any:
    if not _has_forced_step(model):
        return method

    @functools.wraps(method)
    def make_train_function(*args: Any, **kwargs: Any) -> Any:
        _HOOKS.add(model)  # The user may have replaced `train_step` of the class since.
        _wrap_assigned_step(model)
        made = method(*args, **kwargs)
        if not _has_forced_step(model):
            return made  # It was withdrawn meanwhile: a repair of a `fit` that an error ended.
        compare_first_steps(model, kept_with(model, Proof), _norms_of)
        return made if made is None else model.train_function

    return make_train_function


def _bind_training(hook: MethodHook, model: Any, method: Callable[..., Any]) -> Any:
    @functools.wraps(method)
    def train(*args: Any, **kwargs: Any) -> Any:
        refuse_graph_mode(backend_for(model))
        return method(*args, **kwargs)

    return train


_BINDS = {"train_step": _bind_train_step, "make_train_function": _bind_make_train_function}
_HOOKS = ModelHooks(_BINDS)


class _AssignedStep:
    """A `train_step` that the user assigned to the model itself; kept with the model."""

    own: Any = None
    replacement: Any = None


def _wrap_assigned_step(model: Any) -> None:
    """Such a step hides the hook on the class, so it is wrapped where it is."""
    assigned = vars(model).get("train_step")
    kept = find_kept(model, _AssignedStep)
    if assigned is None or (kept is not None and assigned is kept.replacement):
        return
    kept = kept_with(model, _AssignedStep)
    kept.own, kept.replacement = assigned, _forced(model, assigned)
    object.__setattr__(model, "train_step", kept.replacement)


def _unwrap_assigned_step(model: Any) -> None:
    kept = find_kept(model, _AssignedStep)
    if kept is None:
        return
    if vars(model).get("train_step") is kept.replacement:
        object.__setattr__(model, "train_step", kept.own)
    forget(model, _AssignedStep)
