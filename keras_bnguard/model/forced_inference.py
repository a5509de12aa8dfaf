"""Which BN of a model this package forces into inference mode."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from keras_bnguard.errors import SelectorError
from keras_bnguard.model.expected_mode import norms_to_force
from keras_bnguard.model.kept import find_kept
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import OnFailure
from keras_bnguard.selectors import Selectors


class ForcesInStep:
    """Base of model classes whose own `train_step` forces; `GuardedTrainStep` is one.

    Attributes:
        on_failure: what happens where a BN does not run in inference mode, "raise" or "warn".
    """

    on_failure: str = OnFailure.RAISE


class ForcedInferenceState:
    """What is forced on one model: by its training step, and in open blocks.

    It is kept with the model. Requests and blocks add up; each is withdrawn by its own key.
    """

    def __init__(self) -> None:
        self._requests: Dict[object, Optional[Selectors]] = {}
        self._on_failure: Dict[object, OnFailure] = {}
        self._shared: Dict[object, Tuple[Any, ...]] = {}
        self._blocks: Dict[object, Tuple[str, ...]] = {}

    @classmethod
    def of(cls, model: Any) -> ForcedInferenceState:
        """The state of a model, to read; a new, empty one where nothing is forced."""
        return find_kept(model, cls) or cls()

    @property
    def in_step(self) -> bool:
        """Whether a request of the model's own for its training step is open."""
        return bool(self._requests)

    @property
    def empty(self) -> bool:
        """Whether no request and no block is open."""
        return not (self._requests or self._shared or self._blocks)

    def add_request(
        self, key: object, layers: Optional[Selectors], on_failure: OnFailure = OnFailure.RAISE
    ) -> None:
        """The training step also forces the BN that `layers` picks.

        Args:
            key: withdraws the request.
            layers: a selector, None for those alone that should run in inference mode anyway.
            on_failure: what happens where a BN does not run in it. Defaults to an error.
        """
        self._requests[key] = layers
        self._on_failure[key] = on_failure

    def add_shared(
        self, key: object, layers: Sequence[Any], on_failure: OnFailure = OnFailure.RAISE
    ) -> None:
        """The training step also forces these BN, which another model that has them too forces.

        Args:
            key: withdraws it.
            layers: the BN.
            on_failure: as in `add_request`. Defaults to an error.
        """
        self._shared[key] = tuple(layers)
        self._on_failure[key] = on_failure

    def on_failure(self, model: Any) -> OnFailure:
        """What happens where a BN does not run in inference mode: the strictest wish counts.

        Args:
            model: the model; the attribute `on_failure` of a class that forces is a wish, too.
        """
        wanted = set(self._on_failure.values())
        if isinstance(model, ForcesInStep):
            wanted.add(OnFailure(model.on_failure))
        return next((each for each in OnFailure if each in wanted), OnFailure.NOTE)

    def withdraw_request(self, key: object) -> bool:
        """Withdraw what was added by a key; False if there is nothing by that key."""
        known = key in self._requests or key in self._shared
        self._requests.pop(key, None)
        self._shared.pop(key, None)
        self._on_failure.pop(key, None)
        return known

    def open_block(self, key: object, paths: Tuple[str, ...]) -> None:
        """Note the BN that a `with` block forces, by path."""
        self._blocks[key] = paths

    def close_block(self, key: object) -> None:
        """The block by that key is left."""
        self._blocks.pop(key, None)

    def step_paths(self, snapshot: ModelSnapshot, *, strict: bool = True) -> Tuple[str, ...]:
        """Paths of the BN that the training step forces, as the flags of the layers are now.

        Args:
            snapshot: the model.
            strict: a selector that matches nothing is an error. Defaults to True; inside a step,
                layers that are not built yet may still bring what it matches.

        Raises:
            SelectorError: the selector of a request matches no BN.
        """
        chosen: List[str] = []
        if forces_in_step(snapshot.model):
            chosen += norms_to_force(snapshot.norms_with_current_flags(), {})
        for selector in self._requests.values():
            try:
                chosen += () if selector is None else snapshot.select_norms(selector)
            except SelectorError:
                if strict:
                    raise
        shared = {id(layer) for layers in self._shared.values() for layer in layers}
        chosen += [handle.path for handle in snapshot.handles if id(handle.layer) in shared]
        return tuple(dict.fromkeys(chosen))

    def block_paths(self) -> Tuple[str, ...]:
        """Paths of the BN that open blocks force."""
        return tuple(dict.fromkeys(path for paths in self._blocks.values() for path in paths))


def forces_in_step(model: Any) -> bool:
    """Whether the model's `train_step` forces BN, by `force_inference` or by the mixin."""
    return isinstance(model, ForcesInStep) or ForcedInferenceState.of(model).in_step


def mark_forced_inference(snapshot: ModelSnapshot) -> None:
    """Note in a snapshot every BN that is forced into inference mode now, by step or block.

    Raises:
        SelectorError: the selector of a request matches no BN.
    """
    state = ForcedInferenceState.of(snapshot.model)
    paths = {*state.step_paths(snapshot), *state.block_paths()}
    snapshot.mark_forced(paths, in_step=forces_in_step(snapshot.model))
