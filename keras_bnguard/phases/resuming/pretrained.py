"""Which BN were pretrained when a schedule first saw a model."""

from __future__ import annotations

from typing import Collection, Dict, FrozenSet, Optional

from keras_bnguard.model.kept import find_kept, kept_with
from keras_bnguard.model.snapshot import ModelSnapshot


class PretrainedNorms:
    """Which BN had trained statistics when a schedule first saw them; kept with the model.

    Training gives a new BN trained statistics. A later `fit` of the same model must not take it
    for a pretrained one, so what was found first stays. It is found again, in a run from epoch 0,
    for a BN whose gamma or beta were replaced since the last scheduled `fit` ended, as
    `load_weights` does.
    """

    def __init__(self) -> None:
        self._trained: Dict[str, bool] = {}
        self._left: Dict[str, bytes] = {}

    def find(self, snapshot: ModelSnapshot, *, goes_on: bool) -> FrozenSet[str]:
        """Paths of the pretrained BN of a model whose scheduled `fit` begins.

        Args:
            snapshot: the model.
            goes_on: the `fit` goes on with a run; if not, it begins one.
        """
        replaced = frozenset() if goes_on else self._replaced(snapshot)
        return frozenset(
            norm.path
            for norm in snapshot.inventory.norms
            if (
                norm.at_default is False
                if norm.path in replaced
                else self._trained.get(norm.path, norm.at_default is False)
            )
        )

    def take(self, snapshot: ModelSnapshot, paths: Collection[str]) -> None:
        """Take these for the pretrained BN of the model, and all others for new ones."""
        self._trained = {norm.path: norm.path in paths for norm in snapshot.inventory.norms}
        self._left = {}

    def finish(self, snapshot: ModelSnapshot) -> None:
        """Note what a scheduled `fit` leaves. After an exception nothing counts as replaced."""
        self._left = _affine(snapshot)

    def _replaced(self, snapshot: ModelSnapshot) -> FrozenSet[str]:
        if not self._left:
            return frozenset()
        now = _affine(snapshot)
        return frozenset(path for path, value in self._left.items() if now.get(path) != value)


def pretrained_at_start(
    snapshot: ModelSnapshot, *, goes_on: bool = False, saved: Optional[Collection[str]] = None
) -> FrozenSet[str]:
    """Paths of the BN that count as pretrained in a scheduled `fit` that begins now.

    Args:
        snapshot: the model.
        goes_on: the `fit` goes on with a run. Defaults to False.
        saved: those of the state folder, None where it has none. Defaults to None.
    """
    known = find_kept(snapshot.model, PretrainedNorms)
    if saved is not None and (goes_on or known is None):
        return frozenset(saved)
    return (known or PretrainedNorms()).find(snapshot, goes_on=goes_on)


def is_known(snapshot: ModelSnapshot) -> bool:
    """Whether a schedule has seen this model before."""
    return find_kept(snapshot.model, PretrainedNorms) is not None


def remember(snapshot: ModelSnapshot, paths: Collection[str]) -> None:
    """Keep with the model which BN were pretrained."""
    kept_with(snapshot.model, PretrainedNorms).take(snapshot, paths)


def finish(snapshot: ModelSnapshot) -> None:
    """Note what a scheduled `fit` leaves on its model."""
    kept_with(snapshot.model, PretrainedNorms).finish(snapshot)


def _affine(snapshot: ModelSnapshot) -> Dict[str, bytes]:
    """Gamma and beta of each BN, as bytes."""
    values = snapshot.backend.values
    values.sync(snapshot.model)
    found: Dict[str, bytes] = {}
    for handle in snapshot.handles:
        vectors = [vector for vector in handle.vectors()[2:] if vector is not None]
        found[handle.path] = values.flat(vectors).tobytes() if vectors else b""
    return found
