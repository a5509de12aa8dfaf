"""`force_inference`: BN of a model in inference mode, until released or while a block is open."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

from keras_bnguard.arguments import short_traceback
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.errors import UnsupportedModelError
from keras_bnguard.inference.block import ForcedBlock
from keras_bnguard.inference.proof import Proof, parse_on_failure
from keras_bnguard.inference.requests import (
    close_request,
    joined_models,
    open_request,
    renew_request,
)
from keras_bnguard.inference.steps import forced_in_step, refuse_graph_mode
from keras_bnguard.model.expected_mode import norms_to_force
from keras_bnguard.model.forced_inference import ForcedInferenceState
from keras_bnguard.model.kept import find_kept, kept_with
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.records import OnFailure, Verification
from keras_bnguard.selectors import Selectors, check_layers


class force_inference:
    """Force BN of a model into inference mode.

    From the call until `release()`, the model's `train_step` forces every BN that should run
    in inference mode (see `GuardedTrainStep`) and those that `layers` names, in `fit` and
    `train_on_batch`. So does the step of every other model that has these BN too, also of one
    that is made later.
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
        on_failure: "raise" or "warn", where a BN does not run in inference mode although it is
            forced. Defaults to "raise".

    Attributes:
        paths: paths of the BN that the training step forces, as the flags are now.
        verified: what is known of each BN, by path; see `Verification`. What the step of another
            model showed of the BN that it shares counts, too.

    That a BN runs in inference mode is measured at its first call in a step, and its statistics
    are compared bit for bit after each of the first three steps, or at the end of a block. Where
    one does not, an `InferenceNotForcedError` ends the training (`on_failure`), as a rule before
    any weight has changed.

    Raises:
        SelectorError: `layers` matches no BN of a built model; lists near misses.
        UnsupportedModelError: `model` is no Keras model, has no `train_step`, or trains in graph
            mode (`disable_eager_execution`).
        SettingError: `on_failure` is neither "raise" nor "warn".

    Example:
        handle = bng.force_inference(model, layers="backbone/*")
        model.fit(x, y)
        handle.release()

        with bng.force_inference(model, layers="backbone/*"):
            for x, y in batches:
                step(x, y)
    """

    @short_traceback
    def __init__(
        self,
        model: Any,
        layers: Optional[Selectors] = None,
        *,
        on_failure: str = OnFailure.RAISE,
    ) -> None:
        backend = backend_for(model)
        if not backend.graph.is_model(model) or not hasattr(model, "train_step"):
            raise UnsupportedModelError(
                f"model: expected a keras.Model with a train_step, got {type(model).__name__}. "
                "Pass the model that is trained, not a layer."
            )
        refuse_graph_mode(backend)
        self._on_failure = parse_on_failure(on_failure)
        if layers is not None:
            check_layers(layers)
        if layers is not None and getattr(model, "built", True):
            take_snapshot(model).select_norms(layers)
        self._model = model
        self._layers = layers
        self._block: Optional[ForcedBlock] = None
        self._verified: Dict[str, Verification] = {}
        open_request(self, model, layers, self._on_failure)

    @property
    def paths(self) -> Tuple[str, ...]:
        return forced_in_step(self._model)

    @property
    def verified(self) -> Mapping[str, Verification]:
        self._note_verified()
        return dict(self._verified)

    def release(self) -> None:
        """End what this call forces; what other calls force on the model stays. No-op when
        released already."""
        self._note_verified()
        close_request(self)

    def __enter__(self) -> force_inference:
        snapshot = take_snapshot(self._model)
        paths = (
            norms_to_force(snapshot.inventory.norms, {})
            if self._layers is None
            else snapshot.select_norms(self._layers)
        )
        block = ForcedBlock(snapshot, paths, self._on_failure)
        block.__enter__()
        self._block = block
        kept_with(self._model, ForcedInferenceState).open_block(self, paths)
        renew_request(self)
        return self

    def __exit__(self, *exception: Any) -> None:
        block = self._block
        if block is not None:
            self._note_verified()
            self._block = None
            ForcedInferenceState.of(self._model).close_block(self)
            block.__exit__(*exception)
        self.release()
        if block is not None and exception[0] is None:
            try:
                block.compare()
            finally:
                self._verified.update(block.status)

    def _note_verified(self) -> None:
        """Keep what is known of the BN that are forced now, in all steps that force them."""
        proof, forced = find_kept(self._model, Proof), set(forced_in_step(self._model))
        known = {} if proof is None else proof.status
        for path in forced:
            self._verified.setdefault(path, Verification.NOT_CALLED)
        for path, status in known.items():
            if path in forced or status is Verification.FAILED:
                self._verified[path] = status
        seen = {} if self._block is None else self._block.status
        for path, status in [*seen.items(), *self._seen_in_joined_models()]:
            before = self._verified.get(path)
            if status is Verification.FAILED or before in (None, Verification.NOT_CALLED):
                self._verified[path] = status

    def _seen_in_joined_models(self) -> List[Tuple[str, Verification]]:
        """(path in this model, status) of BN of its that the steps of other models force."""
        others = [find_kept(model, Proof) for model in joined_models(self)]
        found: List[Tuple[str, Verification]] = []
        for handle in take_snapshot(self._model).handles if others else ():
            for proof in others:
                status = None if proof is None else proof.status_of(handle)
                if status is not None and status is not Verification.NOT_CALLED:
                    found.append((handle.path, status))
        return found
