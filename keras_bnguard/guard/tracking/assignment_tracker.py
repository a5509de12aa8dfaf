"""Weights that callbacks assign between training steps, and whether the statistics followed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Deque, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.guard.tracking.readable_norms import ReadableNorms
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import AssignedWeights, Moment
from keras_bnguard.statistics.layout import Vectors, bits

MAX_VALUES = 2**18
"""So many values of kernels are compared at most, the smallest kernels first."""
MAX_VARIABLES = 16
"""So many kernels, and so many vectors, are compared at most."""
KEEP = 256
"""So many earlier moments are recognised when their statistics are put back."""


@dataclass(frozen=True)
class _State:
    """The weights of a sample of variables, by id, and the statistics of all BN."""

    weights: Mapping[int, np.ndarray]
    statistics: Vectors


@dataclass(frozen=True)
class _Known:
    """An earlier state, by hashes: of each variable, and of the statistics of each BN."""

    moment: Moment
    weights: Mapping[int, int]
    statistics: Tuple[int, ...]


class AssignmentTracker:
    """Compares weights and statistics before and after the callbacks between two epochs.

    Only weights and statistics that the steps of the last epoch changed are compared.
    """

    def __init__(self) -> None:
        self._variables: Sequence[Any] = ()
        self._norms: Optional[ReadableNorms] = None
        self._start: Optional[_State] = None
        self._end: Optional[_State] = None
        self._known: Deque[_Known] = deque(maxlen=KEEP)

    def steps_begin(self, snapshot: ModelSnapshot, moment: Moment) -> None:
        """The callbacks before an epoch are done."""
        self._variables = _sample(snapshot.model.trainable_variables)
        self._norms = ReadableNorms(snapshot.backend, snapshot.handles)
        self._start, self._end = self._read(snapshot), None
        self._remember(self._start, moment)

    def steps_end(self, snapshot: ModelSnapshot, moment: Moment) -> None:
        """The steps of an epoch are done, and no callback has run since."""
        if self._start is not None:
            self._end = self._read(snapshot)
            self._remember(self._end, moment)

    def assigned(
        self, snapshot: ModelSnapshot, moment: Moment, last: bool
    ) -> Optional[AssignedWeights]:
        """What callbacks assigned since `steps_end`, where the statistics did not follow.

        Args:
            snapshot: the model.
            moment: now.
            last: whether training is over. What is assigned before that is left out where the
                statistics are as the steps left them: the steps to come update them.
        """
        start, before, norms = self._start, self._end, self._norms
        if start is None or before is None or norms is None:
            return None
        updated = norms.layout.any(before.statistics.differs(start.statistics))
        if not updated.any():
            return None
        now = self._read(snapshot)
        trained = [
            key for key in before.weights if _differ(before.weights[key], start.weights[key])
        ]
        changed = [key for key in trained if _differ(now.weights[key], before.weights[key])]
        others = norms.layout.any(now.statistics.differs(before.statistics)) & updated
        if others.any():
            return self._put_back(now, changed, others, moment)
        if not last or not changed:
            return None
        pairs = [(before.weights[key], now.weights[key]) for key in changed]
        every = [before.weights[key] for key in trained]
        return AssignedWeights(
            moment,
            self._paths(updated),
            distance=_norm([new - old for old, new in pairs]) / max(_norm(every), 1e-30),
            clipped=_clipped(pairs),
        )

    def _put_back(
        self, now: _State, changed: Sequence[int], others: np.ndarray, moment: Moment
    ) -> Optional[AssignedWeights]:
        """Statistics of an earlier moment, with weights that are not those of that moment."""
        present = self._hashes(now.statistics)
        places = [int(i) for i in np.flatnonzero(others)]
        same = [each for each in self._known if _agree(each.statistics, present, places)]
        if not same or any(_agrees(each, now, changed) for each in same):
            return None
        if not changed and self._is_default(now.statistics, others):
            return None  # Reset, to take new ones.
        return AssignedWeights(moment, self._paths(others), put_back=same[0].moment)

    # ---------------------------------------------------------------- internal
    def _read(self, snapshot: ModelSnapshot) -> _State:
        assert self._norms is not None
        values = snapshot.backend.values
        values.sync(snapshot.model)
        arrays = values.arrays(self._variables)
        return _State({id(v): a for v, a in zip(self._variables, arrays)}, self._norms.read())

    def _remember(self, state: _State, moment: Moment) -> None:
        weights = {key: hash(value.tobytes()) for key, value in state.weights.items()}
        self._known.append(_Known(moment, weights, self._hashes(state.statistics)))

    def _hashes(self, statistics: Vectors) -> Tuple[int, ...]:
        assert self._norms is not None
        slices = [self._norms.layout.slice_of(i) for i in range(len(self._norms))]
        return tuple(
            hash((statistics.mean[here].tobytes(), statistics.variance[here].tobytes()))
            for here in slices
        )

    def _paths(self, which: np.ndarray) -> Tuple[str, ...]:
        assert self._norms is not None
        return tuple(path for path, i in self._norms.index.items() if which[i])

    def _is_default(self, statistics: Vectors, which: np.ndarray) -> bool:
        assert self._norms is not None
        default = self._norms.layout.all((statistics.mean == 0) & (statistics.variance == 1))
        return bool(default[which].all())


def _sample(variables: Sequence[Any]) -> List[Any]:
    """The smallest kernels and the smallest vectors, in bounded number and size."""
    found: Dict[bool, List[Any]] = {True: [], False: []}
    values = 0
    sized = [(int(np.prod([int(d) for d in v.shape])), i, v) for i, v in enumerate(variables)]
    for size, _, variable in sorted(sized, key=lambda each: each[:2]):
        group = found[len(variable.shape) > 1]
        if len(group) < MAX_VARIABLES and (values + size <= MAX_VALUES or not group):
            group.append(variable)
            values += size
    return found[True] + found[False]


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape != other.shape or bool(np.any(bits(one) != bits(other)))


def _agree(one: Sequence[int], other: Sequence[int], places: Sequence[int]) -> bool:
    return len(one) == len(other) and all(one[i] == other[i] for i in places)


def _agrees(known: _Known, now: _State, changed: Sequence[int]) -> bool:
    """Whether all weights that were assigned are those of an earlier moment, or may be."""
    if not changed:
        return False
    return all(
        known.weights.get(key) in (None, hash(now.weights[key].tobytes())) for key in changed
    )


def _norm(arrays: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(sum(float(np.sum(np.square(a, dtype=np.float64))) for a in arrays)))


def _clipped(pairs: Sequence[Tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether each value that changed is 0 now, or at the one limit of them all."""
    changed = np.abs(np.concatenate([new[new != old].ravel() for old, new in pairs]))
    limits = np.unique(changed[changed != 0])
    return bool(np.all(np.isfinite(changed))) and len(limits) <= 1
