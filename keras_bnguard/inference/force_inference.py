"""`force_inference`: BN of a model in inference mode, until released or while a block is open."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from keras_bnguard.backends.patches.inference_mode import ForcedInference
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.errors import UnsupportedModelError
from keras_bnguard.inference.contexts import (
    StepContext,
    forced_in_step,
    make_forced_inference,
    step_context,
)
from keras_bnguard.model.expected_mode import norms_to_force
from keras_bnguard.model.forced_inference import (
    ForcedInferenceState,
    ForcesInStep,
    forces_in_step,
)
from keras_bnguard.model.kept import find_kept, forget, kept_with
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.selectors import Selectors


class force_inference:
    """Force BN of a model into inference mode.

    From the call until `release()`, the model's `train_step` forces every BN that should run
    in inference mode (see `GuardedTrainStep`) and those that `layers` names, in `fit` and
    `train_on_batch`. As a context manager it also forces everything that is traced or run
    eagerly inside the block: `GradientTape` steps, stateless JAX steps, torch loops,
    `predict`; and it releases on exit, after an exception too. A `tf.function` or `jax.jit`
    that was traced before keeps what it traced, so make or first call it inside.

    Calls on one model add up; each `release()` takes back its own. Nothing is left on the
    model when it is saved, pickled, copied or cloned; a loaded copy needs a call of its own.

    Args:
        model: a Keras model, compiled or not, built or not.
        layers: BN to force besides those that should run in inference mode anyway: a glob on
            paths such as "backbone/*", "re:...", a layer class, a predicate, or a list of
            these; "*" is every BN. Defaults to None: no others.

    Attributes:
        paths: paths of the BN that the training step forces, as the flags are now.

    Raises:
        SelectorError: `layers` matches no BN of a built model; lists near misses.
        UnsupportedModelError: `model` is no Keras model, or has no `train_step`.

    Example:
        handle = bng.force_inference(model, layers="backbone/*")
        model.fit(x, y)
        handle.release()

        with bng.force_inference(model, layers="backbone/*"):
            for x, y in batches:
                step(x, y)
    """

    def __init__(self, model: Any, layers: Optional[Selectors] = None) -> None:
        backend = backend_for(model)
        if not backend.graph.is_model(model) or not hasattr(model, "train_step"):
            raise UnsupportedModelError(
                f"expected a keras.Model with a train_step, got {type(model).__name__}. "
                "Pass the model that is trained, not a layer."
            )
        if layers is not None and getattr(model, "built", True):
            take_snapshot(model).select_norms(layers)
        self._model = model
        self._backend = backend
        self._layers = layers
        self._block: Optional[ForcedInference] = None
        kept_with(model, ForcedInferenceState).add_request(self, layers)
        self._trace_again()

    @property
    def paths(self) -> Tuple[str, ...]:
        return forced_in_step(self._model)

    def release(self) -> None:
        """End what this call forces; what other calls force on the model stays. No-op when
        released already."""
        state = find_kept(self._model, ForcedInferenceState)
        if state is None or not state.withdraw_request(self):
            return
        self._trace_again()
        if state.empty:
            forget(self._model, ForcedInferenceState)

    def __enter__(self) -> force_inference:
        snapshot = take_snapshot(self._model)
        paths = (
            norms_to_force(snapshot.inventory.norms, {})
            if self._layers is None
            else snapshot.select_norms(self._layers)
        )
        block = make_forced_inference(snapshot, paths, obey_graph=False, stop_leaks=False)
        block.__enter__()
        self._block = block
        self._backend.step.drop_train_function(self._model)
        kept_with(self._model, ForcedInferenceState).open_block(self, paths)
        return self

    def __exit__(self, *exception: Any) -> None:
        block, self._block = self._block, None
        if block is not None:
            ForcedInferenceState.of(self._model).close_block(self)
            block.__exit__(*exception)
            self._backend.step.drop_train_function(self._model)
        self.release()

    def _trace_again(self) -> None:
        """Let the next step decide again which BN to force, and be traced again."""
        model = self._model
        forget(model, StepContext)
        if not isinstance(model, ForcesInStep):
            if forces_in_step(model):
                _wrap_train_step(model)
            else:
                _unwrap_train_step(model)
        self._backend.step.drop_train_function(model)


class _OwnStep:
    """The `train_step` of a model before it was wrapped; kept with the model."""

    train_step: Any = None
    on_instance = False


def _wrap_train_step(model: Any) -> None:
    """Put a new function around the model's own step, as JAX keeps the trace of an old one."""
    own = find_kept(model, _OwnStep)
    if own is None:
        own = kept_with(model, _OwnStep)
        own.train_step, own.on_instance = model.train_step, "train_step" in vars(model)
    step = own.train_step

    def train_step(*args: Any, **kwargs: Any) -> Any:
        with step_context(model):
            return step(*args, **kwargs)

    object.__setattr__(model, "train_step", train_step)


def _unwrap_train_step(model: Any) -> None:
    own = kept_with(model, _OwnStep)
    forget(model, _OwnStep)
    if own.on_instance:
        object.__setattr__(model, "train_step", own.train_step)
    else:
        object.__delattr__(model, "train_step")
