"""Stage three: the numbers. Vectors at train begin and at each look, compared bit for bit."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from keras_bnguard.backends.base import Backend
from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.values.readers import LiveReader, Screen
from keras_bnguard.model.expected_mode import did_run, expected_mode
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import (
    CallSite,
    DriftSnapshot,
    EmaBias,
    ExpectedMode,
    Moment,
    NormState,
    RunMode,
    StatisticsChange,
)
from keras_bnguard.statistics.channel_health import DEAD_RATIO, channel_health
from keras_bnguard.statistics.drift import MAX_DISTANCE, Start, layer_means
from keras_bnguard.statistics.ema import ema_bias

# What a BN may look like at a look, one bit each: `StatisticsTracker.quiet` compares them.
_MOVED, _SICK, _FAR = 1, 2, 4


class StatisticsTracker:
    """Moving mean and variance of all built BN of a model, at the start and at each look.

    Args:
        survey: the model's inventory with its handles. BN that are not built yet are taken
            up at the first look that can read them.
    """

    def __init__(self, snapshot: ModelSnapshot) -> None:
        self._backend: Backend = snapshot.backend
        self._snapshot = snapshot
        self._readable: List[NormHandle] = []
        self._index: Dict[str, int] = {}
        self._sizes = np.zeros(0, int)
        self._offsets = np.zeros(0, int)
        self._epsilon = np.zeros(0)
        self._start = self._last = self._now = _Vectors(np.zeros(0))
        self._measured_from: Optional[Tuple[_Vectors, Start]] = None
        self._measured: Optional[Tuple[Any, ...]] = None
        self._known_intents: Optional[
            Tuple[Any, Any, Dict[str, Tuple[ExpectedMode, str, RunMode]]]
        ] = None
        self._known_expected: Optional[Tuple[Any, np.ndarray]] = None
        self._judged: Optional[Tuple[Any, np.ndarray, bool]] = None
        self._screen: Optional[Tuple[np.ndarray, Screen]] = None
        self._affine: Dict[str, NormState] = {}
        self._started_at_default: Dict[str, bool] = {}
        self._from_default = np.zeros(0, bool)
        self._sick: Set[str] = set()
        self.begin(snapshot.handles)

    @property
    def paths(self) -> Tuple[str, ...]:
        return tuple(self._index)

    def begin(self, handles: Sequence[NormHandle]) -> None:
        """Take the start values of every BN that can be read."""
        self._readable = [h for h in handles if _pair(h) is not None]
        self._index = {h.path: i for i, h in enumerate(self._readable)}
        self._sizes = np.array([_channels(h) for h in self._readable], dtype=int)
        self._offsets = np.cumsum(self._sizes) - self._sizes
        epsilon = [h.settings["epsilon"] or 0.0 for h in self._readable]
        self._epsilon = np.repeat(epsilon, self._sizes)
        self._known_expected = self._judged = self._screen = None
        self._read_joined = self._backend.values.reader(self._variables())
        self._now = self._last = self._start = self._read()
        self._affine = {h.path: self._backend.values.state(h) for h in self._readable}
        self._sick = {p for p, state in self._affine.items() if not _finite(state)}
        self._note_defaults()

    def _note_defaults(self) -> None:
        at_default = (self._start.mean == 0) & (self._start.variance == 1)
        defaults = self._segments(at_default, np.logical_and)
        self._from_default = np.asarray(defaults, dtype=bool)
        self._started_at_default = {path: bool(defaults[i]) for path, i in self._index.items()}

    def live_reader(self, model: Any) -> LiveReader:
        """Reads what `quick_check` and `look` take, between two batches."""
        return self._backend.values.live_reader(model, self._variables())

    def look(self, values: Optional[np.ndarray] = None) -> None:
        """Take the present values; the ones of the look before become the last ones.

        Args:
            values: from `live_reader`, None to read the model's own.
        """
        if len(self._index) < len(self._snapshot.handles):
            unread = [h for h in self._snapshot.handles if h.path not in self._index]
            if any(_pair(h) is not None for h in unread):
                self._take_up()
        self._last = self._now
        fits = values is not None and len(values) == len(self._now.bits)
        self._now = _Vectors(values) if fits and values is not None else self._read()

    def quick_check(self, values: np.ndarray) -> bool:
        """Whether values from `live_reader` show every BN as still, or as moved, and as healthy
        as the last judged look did. Drift is not measured, and nothing is kept.

        Args:
            values: all moving means, then all moving variances, shape `(2 * channels,)`.
        """
        if self._judged is None or len(values) != len(self._start.bits):
            return False
        now, n_classes = _Vectors(values), self._judged[1]
        if not np.array_equal(self._changed(self._start, now), (n_classes & _MOVED) != 0):
            return False
        return np.array_equal(self._needs_a_closer_look(now), (n_classes & _SICK) != 0)

    def screen(self) -> Optional[Screen]:
        """What `quick_check` asks, but for a live BN that is back at its start, so that a device can
        be asked; the same object until the next judged look. None before the first."""
        if self._judged is None:
            return None
        n_classes = self._judged[1]
        if self._screen is None or self._screen[0] is not n_classes:
            still, sick = (n_classes & _MOVED) == 0, (n_classes & _SICK) != 0
            floor = np.maximum(self._largest(self._now.variance), 0.0) * DEAD_RATIO
            floor[sick] = -np.inf
            finite = np.finfo(self._now.mean.dtype).min  # Every finite mean is above or at it.
            lowest = np.where(sick, -np.inf, finite)
            floors = [np.repeat(each, self._sizes) for each in (lowest, floor)]
            both = np.concatenate(floors).astype(self._now.mean.dtype)
            frozen = np.tile(np.repeat(still, self._sizes), 2)
            start = np.concatenate([self._start.mean, self._start.variance])
            self._screen = (n_classes, Screen(start, frozen, both))
        return self._screen[1]

    def drift(self, moment: Moment, epoch: Optional[int], steps: int) -> DriftSnapshot:
        """How far every BN is from the start, by the measures of `drift.py`."""
        shift, _, ratio, distance = self._measures()
        return DriftSnapshot(
            moment=moment,
            epoch=epoch,
            steps=steps,
            mean_shift=dict(zip(self._index, shift.tolist())),
            log_variance_ratio=dict(zip(self._index, ratio.tolist())),
            distance=dict(zip(self._index, distance.tolist())),
        )

    def unchanged(self, calls: Mapping[str, Sequence[CallSite]], steps: int) -> bool:
        """Whether this look shows every BN as the last judged one did: as still or as moved,
        healthy, on the same side of the drift limits, none stuck that should move.

        Rules that see nothing but movements can then find nothing new.
        """
        n_classes, expected = self._kinds(), self._expected(calls)
        known, self._judged = self._judged, (expected, n_classes, steps > 0)
        return (
            known is not None
            and known[0] is expected
            and known[2] is (steps > 0)
            and not self._sick
            and np.array_equal(known[1], n_classes)
            and not np.any(n_classes & _SICK)
            and not (steps > 0 and np.any(expected & ((n_classes & _MOVED) == 0)))
        )

    def _expected(self, calls: Mapping[str, Sequence[CallSite]]) -> np.ndarray:
        """Per BN: whether it should train; the same object as long as nothing new is known."""
        intents = self._intents(calls)
        known = self._known_expected
        if known is None or known[0] is not intents:
            live = [intents[path][0] is ExpectedMode.TRAINING for path in self._index]
            known = self._known_expected = (intents, np.array(live, dtype=bool))
        return known[1]

    def _kinds(self) -> np.ndarray:
        """One byte per BN, of the bits at the top of this file."""
        # From default statistics every BN goes far, and no rule minds.
        far = (self._measures()[3] > MAX_DISTANCE) & ~self._from_default
        n_classes = self._changed(self._start) * np.uint8(_MOVED) | far * np.uint8(_FAR)
        return np.asarray(n_classes | self._needs_a_closer_look() * np.uint8(_SICK))

    def statistics_changes(
        self, calls: Mapping[str, Sequence[CallSite]], steps: int
    ) -> Tuple[StatisticsChange, ...]:
        """One record per BN that can be read, in the order of the inventory.

        Gamma and beta are read again only where a BN that should move has not, after a step.
        """
        intents = self._intents(calls)
        has_changed = self._changed(self._start)
        changed_last = self._changed(self._last)
        shift, shift_max, ratio, distance = self._measures()
        closer = self._needs_a_closer_look()
        records = []
        for i, handle in enumerate(self._readable):
            want, why, ran = intents[handle.path]
            stuck = steps > 0 and want is ExpectedMode.TRAINING and not has_changed[i]
            health = self._health(handle, i) if closer[i] or handle.path in self._sick else {}
            records.append(
                StatisticsChange(
                    path=handle.path,
                    expected=want,
                    why=why,
                    changed=bool(has_changed[i]),
                    changed_since_last=bool(changed_last[i]),
                    ran=ran,
                    affine_changed=self._affine_changed(handle) if stuck else None,
                    mean_shift=float(shift[i]),
                    log_variance_ratio=float(ratio[i]),
                    distance=float(distance[i]),
                    max_mean_shift=float(shift_max[i]),
                    started_at_default=self._started_at_default[handle.path],
                    **health,
                )
            )
        return tuple(records)

    def ema_biases(
        self, steps: int, since_last: int, calls: Mapping[str, Sequence[CallSite]]
    ) -> Tuple[EmaBias, ...]:
        """How far each BN with a momentum is behind, after so many steps since train begin and
        since the look before this one; steps in which a BN runs twice count twice."""
        found = []
        for handle, first, size in zip(self._readable, self._offsets, self._sizes):
            momentum = handle.settings["momentum"]
            if momentum is None or not 0.0 < momentum < 1.0:
                continue
            runs = max(1, len(calls.get(handle.path, ())))
            here = slice(first, first + size)
            found.append(
                ema_bias(
                    handle.path,
                    (momentum ** (steps * runs), momentum ** (max(since_last, 1) * runs)),
                    *(
                        (part.mean[here], part.variance[here])
                        for part in (self._start, self._last, self._now)
                    ),
                    epsilon=float(handle.settings["epsilon"] or 0.0),
                    steps=since_last,
                )
            )
        return tuple(found)

    # ---------------------------------------------------------------- internal
    def _intents(
        self, calls: Mapping[str, Sequence[CallSite]]
    ) -> Dict[str, Tuple[ExpectedMode, str, RunMode]]:
        """Path -> (expected, why, ran); worked out anew only where survey or calls are new."""
        inventory, seen = self._snapshot.inventory, {path: len(s) for path, s in calls.items()}
        known = self._known_intents
        if known is None or known[0] is not inventory or known[1] != seen:
            found = {}
            for norm in inventory.norms:
                sites = calls.get(norm.path)
                found[norm.path] = (*expected_mode(norm, sites), did_run(norm, sites))
            known = self._known_intents = (inventory, seen, found)
        return known[2]

    def _variables(self) -> List[Any]:
        pairs = [h.vectors() for h in self._readable]
        return [p[0] for p in pairs] + [p[1] for p in pairs]

    def _read(self) -> _Vectors:
        return _Vectors(self._read_joined())

    def follow(self, snapshot: ModelSnapshot) -> None:
        """Go on with a later survey of the same model, which may know more BN than the first."""
        self._snapshot = snapshot

    def started_at_default(self, path: str) -> Optional[bool]:
        """Whether a BN had mean 0 and variance 1 at the start; None where it was never read."""
        return self._started_at_default.get(path)

    def _take_up(self) -> None:
        """BN built since the start began with mean 0 and variance 1, as every BN is built."""
        old, offsets, sizes = self._index, self._offsets, self._sizes
        start, affine = self._start, self._affine
        self.begin(self._snapshot.handles)
        mean, variance = self._start.mean.copy(), self._start.variance.copy()
        for path, i in self._index.items():
            here = slice(self._offsets[i], self._offsets[i] + self._sizes[i])
            j = old.get(path)
            if j is None:
                mean[here], variance[here] = 0.0, 1.0
                self._affine.pop(path)
            else:
                there = slice(offsets[j], offsets[j] + sizes[j])
                mean[here], variance[here] = start.mean[there], start.variance[there]
                self._affine[path] = affine[path]
        self._start = _Vectors(np.concatenate([mean, variance]))
        self._note_defaults()

    def _segments(self, values: np.ndarray, combine: Any) -> np.ndarray:
        if not len(self._offsets):
            return np.zeros(0, bool)
        return np.asarray(combine.reduceat(values, self._offsets), dtype=bool)

    def _largest(self, values: np.ndarray) -> np.ndarray:
        """The largest value of each layer; NaN where there is one."""
        if not len(self._offsets):
            return np.zeros(0)
        return np.asarray(np.maximum.reduceat(values, self._offsets))

    def _changed(self, before: _Vectors, now: Optional[_Vectors] = None) -> np.ndarray:
        """Per BN: any bit of mean or variance differs, or is NaN where it was a number."""
        changed = (now or self._now).bits != before.bits
        half = len(changed) // 2
        return self._segments(changed[:half] | changed[half:], np.logical_or)

    def _measures(self) -> Tuple[np.ndarray, ...]:
        """Per BN, against the start: mean and largest mean shift, mean log variance ratio, mean
        distance."""
        known = self._measured
        if known is None or known[0] is not self._now or known[1] is not self._start:
            now, start = self._now, self._start
            if self._measured_from is None or self._measured_from[0] is not start:
                origin = Start(start.mean, start.variance, self._epsilon)
                self._measured_from = (start, origin)
            shift, *others = self._measured_from[1].measures(now.mean, now.variance)
            mean = [layer_means(v, self._offsets, self._sizes) for v in (shift, *others)]
            numbers = (mean[0], self._largest(shift), *mean[1:])
            known = self._measured = (now, start, numbers)
        found: Tuple[np.ndarray, ...] = known[2]
        return found

    def _needs_a_closer_look(self, now: Optional[_Vectors] = None) -> np.ndarray:
        """Per BN: a value that is not finite, or below the largest variance times 1e-6, which
        is an upper bound of what counts as dead and cheaper than the median."""
        if not len(self._offsets):
            return np.zeros(0, bool)
        now = now or self._now
        # One comparison for the whole model first; layer by layer only where that does not do.
        if _all_well(now):
            return np.zeros(len(self._offsets), bool)
        lowest = np.minimum.reduceat(now.variance, self._offsets)
        largest, standard_error = self._largest(now.variance), self._largest(np.abs(now.mean))
        return np.asarray(~_well(lowest, largest, standard_error))

    def _affine_changed(self, handle: NormHandle) -> Optional[bool]:
        now, start = self._backend.values.state(handle), self._affine.get(handle.path)
        if start is None or (now.gamma is None and now.beta is None):
            return None
        return any(
            a is not None and b is not None and bool(np.any(_bits(a) != _bits(b)))
            for a, b in ((now.gamma, start.gamma), (now.beta, start.beta))
        )

    def _health(self, handle: NormHandle, i: int) -> Dict[str, Any]:
        here = slice(self._offsets[i], self._offsets[i] + self._sizes[i])
        state = self._backend.values.state(handle)
        return channel_health(self._now.mean[here], self._now.variance[here], state)


def _well(lowest: Any, largest: Any, standard_error: Any) -> Any:
    """Finite, and no variance negative or tiny beside the largest. Comparisons with NaN are
    false, so this asks what is well."""
    well = (lowest > np.maximum(largest, 0.0) * DEAD_RATIO) & np.isfinite(largest)
    return well & np.isfinite(standard_error)


def _all_well(now: _Vectors) -> bool:
    if not len(now.mean):
        return True
    variance = now.variance
    return bool(_well(variance.min(), variance.max(), np.abs(now.mean).max()))


class _Vectors:
    """Moving means and then moving variances of all BN, joined: shape `(2 * channels,)`."""

    def __init__(self, joined: np.ndarray) -> None:
        half = len(joined) // 2
        self.mean, self.variance = joined[:half], joined[half:]
        self.bits = _bits(joined)


def _bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).view(
        {2: np.uint16, 4: np.uint32, 8: np.uint64}[values.itemsize]
    )


def _finite(state: NormState) -> bool:
    return all(v is None or bool(np.all(np.isfinite(v))) for v in (state.gamma, state.beta))


def _pair(handle: NormHandle) -> Optional[Tuple[Any, Any]]:
    mean, variance, _, _ = handle.vectors()
    return None if mean is None or variance is None else (mean, variance)


def _channels(handle: NormHandle) -> int:
    return int(np.prod([int(d) for d in handle.vectors()[0].shape]))
