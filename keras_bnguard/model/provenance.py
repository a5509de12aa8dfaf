"""Where the statistics of every BN come from: default, loaded, trained here, or unknown.

One record a BN layer lives as long as the layer, so that it covers every `fit`, every `compile()`
and every model that has the layer. It takes what was seen when a run begins and at its checks;
what changed in between without a training step that was observed is judged by what it became.
"""

from __future__ import annotations

import weakref
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.records import NormKind, NormState, Provenance

MIN_PRETRAINING = 8
"""Steps of another model that count as a pretraining for this one."""
FIRST_PASSES = 2
"""So many forward passes before the first update of a loop are not taken for a pretraining."""
KEEP = 512
"""So many states of a BN are recognised when they are put back."""


class StatisticsHistory:
    """What is known of one BN layer.

    Attributes:
        last: what its statistics came from when they were seen last.
    """

    def __init__(self) -> None:
        self.last: Optional[Provenance] = None
        self._bits = 0
        self._seen: Dict[int, Provenance] = {}
        self._trainers: List[weakref.ref[Any]] = []
        self._start: Optional[NormState] = None
        self._left = 1.0
        self._steps: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._frozen_in: weakref.WeakSet[Any] = weakref.WeakSet()

    # ------------------------------------------------------------------ what was seen
    def begin(
        self, model: Any, state: NormState, started: int, momentum: Optional[float] = None
    ) -> None:
        """A run of a model begins, or a check outside of one is made.

        Args:
            model: the model.
            state: the vectors of the BN.
            started: steps that the optimizer of the model has taken.
            momentum: its momentum, where a forward pass in training mode may have been before, as
                in a loop that is seen from its first update on. Defaults to None: none was.
        """
        bits = bits_of(state)
        if is_default(state):
            # Whatever was before: it starts again, as in the next fold.
            self._trainers.clear()
            self._steps.clear()
            self._frozen_in.clear()
            self._keep(bits, Provenance.DEFAULT)
            self._start = None
        elif bits in self._seen:
            self._keep(bits, self._seen[bits])
        elif self.last is None:
            self._keep(bits, _first_seen(state, started, momentum))
        elif self.last is Provenance.DEFAULT:
            self._keep(bits, Provenance.UNKNOWN if started else Provenance.LOADED)
        elif self.last is Provenance.TRAINED_HERE and self._steps.get(model):
            self._keep(bits, Provenance.UNKNOWN)
        else:
            self._keep(bits, self.last)
        if self._start is None or self.last is Provenance.UNKNOWN:
            self._start, self._left = state, 1.0

    def decay(self, left: float) -> Tuple[Optional[NormState], float]:
        """A run has ended whose updates leave this share of the statistics it began with.

        Returns:
            The statistics of the first run that was observed without a gap, and the share that is
            left of them after this one.
        """
        self._left *= left
        return self._start, self._left

    def freeze(self, model: Any) -> None:
        """A run of a model begins in which the BN must not update its statistics."""
        if self.last not in (None, Provenance.DEFAULT):
            self._frozen_in.add(model)

    def train(self, model: Any, state: NormState, steps: int) -> None:
        """Training steps of a model updated the statistics.

        Args:
            model: the model.
            state: the vectors of the BN now.
            steps: steps of the model since the run began.
        """
        if not self._trainers or self._trainers[-1]() is not model:
            self._trainers.append(weakref.ref(model))
        self._steps[model] = max(steps, self._steps.get(model, 0))
        if self.last is None and state.mean is not None:  # Its first step has built it.
            self._start = NormState(np.zeros_like(state.mean), np.ones_like(state.mean))
        default = self.last in (None, Provenance.DEFAULT)
        self._keep(bits_of(state), Provenance.TRAINED_HERE if default else self.last)

    def _keep(self, bits: int, provenance: Optional[Provenance]) -> None:
        self._bits, self.last = bits, provenance
        if provenance is not None and len(self._seen) < KEEP:
            self._seen[bits] = provenance

    # ------------------------------------------------------------------ what that means
    def of(self, model: Any) -> Optional[Provenance]:
        """The provenance for a model.

        Statistics that another model trained, or that were frozen in a run of this one, are a
        pretraining for it. Where two models train a BN in turn, neither is.
        """
        if self.last in (None, Provenance.DEFAULT, Provenance.LOADED):
            return self.last
        if model in self._frozen_in:
            return Provenance.LOADED
        others = [ref for ref in self._trainers if ref() is not model]
        steps = max((n for other, n in self._steps.items() if other is not model), default=0)
        if others and steps >= MIN_PRETRAINING and not self._in_turn(model):
            return Provenance.LOADED
        return self.last

    def _in_turn(self, model: Any) -> bool:
        """Whether another model trained it again after this one had."""
        trainers = [ref() is model for ref in self._trainers]
        return True in trainers and not all(trainers[trainers.index(True) :])


_HISTORIES: weakref.WeakKeyDictionary[Any, StatisticsHistory] = weakref.WeakKeyDictionary()


def history_of(handle: NormHandle) -> Optional[StatisticsHistory]:
    """The record of a BN, made at the first call; None where only variables can be seen."""
    if handle.kind is NormKind.VARIABLES:
        return None
    key = handle.layer if handle.module is None else handle.module
    try:
        return _HISTORIES.setdefault(key, StatisticsHistory())
    except TypeError:  # a layer of the user's that has no hash
        return None


def provenances(handles: Mapping[str, NormHandle], model: Any) -> Dict[str, Optional[Provenance]]:
    """Path -> where the statistics of a BN come from, for a model."""
    histories = {path: history_of(handle) for path, handle in handles.items()}
    return {path: history.of(model) for path, history in histories.items() if history is not None}


def is_default(state: NormState) -> bool:
    """Whether every mean is 0 and every variance is 1."""
    return bool(np.all(state.mean == 0) and np.all(state.variance == 1))


def bits_of(state: NormState) -> int:
    """A number that stands for the bits of the statistics."""
    return hash((_bytes(state.mean), _bytes(state.variance)))


def _bytes(vector: Optional[np.ndarray]) -> bytes:
    return b"" if vector is None else np.ascontiguousarray(vector).tobytes()


def _first_seen(state: NormState, started: int, momentum: Optional[float]) -> Provenance:
    if started:
        return Provenance.UNKNOWN
    return Provenance.TRAINED_HERE if _few_passes(state, momentum) else Provenance.LOADED


def _few_passes(state: NormState, momentum: Optional[float]) -> bool:
    """Whether one or two forward passes in training mode explain the statistics.

    Gamma and beta are as they are built, and no variance is below what two updates leave of 1.
    """
    affine = [(state.gamma, 1.0), (state.beta, 0.0)]
    known = [bool(np.all(vector == value)) for vector, value in affine if vector is not None]
    if not known or not all(known) or momentum is None or state.variance is None:
        return False
    return bool(np.all(state.variance >= momentum**FIRST_PASSES * (1 - 1e-6)))
