"""`force_inference`: BN of a model in inference mode, until released or while a block is open."""

from __future__ import annotations

import weakref
from typing import Any, List, Optional, Tuple

from keras_bnguard.backends.patches.inference_mode import ForcedInference
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.errors import UnsupportedModelError
from keras_bnguard.inference.contexts import make_forced_inference
from keras_bnguard.inference.steps import forced_in_step, renew_steps, withdraw
from keras_bnguard.model.expected_mode import norms_to_force
from keras_bnguard.model.forced_inference import ForcedInferenceState
from keras_bnguard.model.kept import kept_with
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.selectors import Selectors


class force_inference:
    """Force BN of a model into inference mode.

    From the call until `release()`, the model's `train_step` forces every BN that should run
    in inference mode (see `GuardedTrainStep`) and those that `layers` names, in `fit` and
    `train_on_batch`. So does the step of every other model that exists and has these BN too.
    As a context manager it also forces everything that is traced or run eagerly inside the
    block: `GradientTape` steps, stateless JAX steps, torch loops, `predict`; and it releases on
    exit, after an exception too. A `tf.function` or `jax.jit` that was traced before keeps what
    it traced, so make or first call it inside.

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
        self._others: List[Any] = []
        kept_with(model, ForcedInferenceState).add_request(self, layers)
        self._renew()

    @property
    def paths(self) -> Tuple[str, ...]:
        return forced_in_step(self._model)

    def release(self) -> None:
        """End what this call forces; what other calls force on the model stays. No-op when
        released already."""
        others, self._others = self._others, []
        for model in (self._model, *(ref() for ref in others)):
            if model is not None:
                withdraw(model, self)

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
        kept_with(self._model, ForcedInferenceState).open_block(self, paths)
        self._renew()
        return self

    def __exit__(self, *exception: Any) -> None:
        block, self._block = self._block, None
        if block is not None:
            ForcedInferenceState.of(self._model).close_block(self)
            block.__exit__(*exception)
        self.release()

    def _renew(self) -> None:
        others = renew_steps(take_snapshot(self._model), self)
        self._others = [weakref.ref(model) for model in others]
