"""Which BN of a model this package forces into inference mode."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from keras_bnguard.model.expected_mode import norms_to_force
from keras_bnguard.model.kept import find_kept
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.selectors import Selectors


class ForcesInStep:
    """Base of model classes whose own `train_step` forces; `GuardedTrainStep` is one."""


class ForcedInferenceState:
    """What is forced on one model: by its training step, and in open blocks.

    It is kept with the model. Requests and blocks add up; each is withdrawn by its own key.
    """

    def __init__(self) -> None:
        self._requests: Dict[object, Optional[Selectors]] = {}
        self._blocks: Dict[object, Tuple[str, ...]] = {}

    @classmethod
    def of(cls, model: Any) -> ForcedInferenceState:
        """The state of a model, to read; a new, empty one where nothing is forced."""
        return find_kept(model, cls) or cls()

    @property
    def in_step(self) -> bool:
        """Whether a request for the training step is open."""
        return bool(self._requests)

    @property
    def empty(self) -> bool:
        """Whether no request and no block is open."""
        return not self._requests and not self._blocks

    def add_request(self, key: object, layers: Optional[Selectors]) -> None:
        """The training step also forces the BN that `layers` picks.

        Args:
            key: withdraws the request.
            layers: a selector, None for those alone that should run in inference mode anyway.
        """
        self._requests[key] = layers

    def withdraw_request(self, key: object) -> bool:
        """Withdraw a request; False if there is none by that key."""
        if key not in self._requests:
            return False
        del self._requests[key]
        return True

    def open_block(self, key: object, paths: Tuple[str, ...]) -> None:
        """Note the BN that a `with` block forces, by path."""
        self._blocks[key] = paths

    def close_block(self, key: object) -> None:
        """The block by that key is left."""
        self._blocks.pop(key, None)

    def step_paths(self, snapshot: ModelSnapshot) -> Tuple[str, ...]:
        """Paths of the BN that the training step forces, as the flags of the layers are now.

        Raises:
            SelectorError: the selector of a request matches no BN.
        """
        if not forces_in_step(snapshot.model):
            return ()
        expected = norms_to_force(snapshot.norms_with_current_flags(), {})
        chosen: List[str] = []
        for selector in self._requests.values():
            chosen += () if selector is None else snapshot.select_norms(selector)
        return tuple(dict.fromkeys((*expected, *chosen)))

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
