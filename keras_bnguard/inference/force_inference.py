"""`force_inference`: BN of a model in inference mode, until released or while a block is open."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from keras_bnguard.backends.patches.inference_mode import ForcedInference
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.errors import UnsupportedModelError
from keras_bnguard.inference.selection import (
    IN_BLOCK,
    IN_STEP,
    ForcedInStep,
    choose_norms,
    forced_in_step,
    forces_in_step,
    make_forced_inference,
    step_forced_inference,
)
from keras_bnguard.model.expected_mode import norms_to_force
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
            choose_norms(take_snapshot(model), layers)
        self._model = model
        self._backend = backend
        self._layers = layers
        self._key = object()
        self._block: Optional[ForcedInference] = None
        self._block_paths: Tuple[str, ...] = ()
        self._put_on_step()

    @property
    def paths(self) -> Tuple[str, ...]:
        return forced_in_step(self._model)

    def release(self) -> None:
        """End what this call forces; what other calls force on the model stays. No-op when
        released already."""
        state = IN_STEP.get(self._model)
        if state is None or state.requests.pop(self._key, _MISSING) is _MISSING:
            return
        state.signature = None
        if not state.requests:
            IN_STEP.pop(self._model, None)
            if self._model.__dict__.pop("_bng_step", None):
                object.__delattr__(self._model, "train_step")
        self._backend.step.drop_train_function(self._model)

    def __enter__(self) -> force_inference:
        snapshot = take_snapshot(self._model)
        self._block_paths = (
            norms_to_force(snapshot.inventory.norms, {})
            if self._layers is None
            else choose_norms(snapshot, self._layers)
        )
        self._block = make_forced_inference(
            snapshot, self._block_paths, obey_graph=False, stop_leaks=False
        )
        self._block.__enter__()
        self._backend.step.drop_train_function(self._model)
        IN_BLOCK.setdefault(self._model, []).append(self._block_paths)
        return self

    def __exit__(self, *exception: Any) -> None:
        block, self._block = self._block, None
        if block is not None:
            IN_BLOCK[self._model].remove(self._block_paths)
            block.__exit__(*exception)
            self._backend.step.drop_train_function(self._model)
        self.release()

    def _put_on_step(self) -> None:
        model = self._model
        state = IN_STEP.setdefault(model, ForcedInStep())
        state.requests[self._key] = self._layers
        state.signature = None
        if not forces_in_step(model):
            own = model.train_step

            def train_step(*args: Any, **kwargs: Any) -> Any:
                with step_forced_inference(model):
                    return own(*args, **kwargs)

            object.__setattr__(model, "_bng_step", True)
            object.__setattr__(model, "train_step", train_step)
        self._backend.step.drop_train_function(model)


_MISSING = object()
