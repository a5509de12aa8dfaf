"""Stage three: the numbers. Vectors at train begin and at each look, compared bit for bit."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from keras_bnguard.drift import log_variance_ratio, mean_shift, per_layer
from keras_bnguard.engines.base import Engine
from keras_bnguard.engines.handles import NormHandle
from keras_bnguard.intent import INFERENCE, did_run, meant
from keras_bnguard.inventory import Survey
from keras_bnguard.records import CallSite, DriftLook, Movement, NormState

DEAD_RATIO = 1e-6
"""A channel whose variance is below this share of its layer's median counts as dead."""


class StatWatch:
    """Moving mean and variance of all built BN of a model, at the start and at each look.

    Args:
        survey: the model's inventory with its handles. BN that are not built yet are taken
            up at the first look that can read them.
    """

    def __init__(self, survey: Survey) -> None:
        self._engine: Engine = survey.engine
        self._survey = survey
        self._readable: List[NormHandle] = []
        self._index: Dict[str, int] = {}
        self._offsets = np.zeros(0, int)
        self._epsilon = np.zeros(0)
        self._start: Tuple[np.ndarray, np.ndarray] = (np.zeros(0), np.zeros(0))
        self._last = self._start
        self._now = self._start
        self._measured: Optional[Tuple[Any, ...]] = None
        self._known_intents: Optional[Tuple[Any, Any, Dict[str, Tuple[str, str, str]]]] = None
        self._affine: Dict[str, NormState] = {}
        self._started_at_default: Dict[str, bool] = {}
        self._sick: Set[str] = set()
        self.begin(survey.handles)

    @property
    def paths(self) -> Tuple[str, ...]:
        return tuple(handle.path for handle in self._readable)

    def begin(self, handles: Sequence[NormHandle]) -> None:
        """Take the start values of every BN that can be read."""
        self._readable = [h for h in handles if _pair(h) is not None]
        self._index = {h.path: i for i, h in enumerate(self._readable)}
        sizes = [_channels(h) for h in self._readable]
        self._offsets = (
            np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int) if sizes else np.zeros(0, int)
        )
        self._epsilon = np.repeat([h.settings["epsilon"] or 0.0 for h in self._readable], sizes)
        self._now = self._last = self._start = self._read()
        self._affine = {h.path: self._engine.state(h) for h in self._readable}
        self._sick = {p for p, state in self._affine.items() if not _finite(state)}
        self._note_defaults()

    def _note_defaults(self) -> None:
        defaults = self._segments((self._start[0] == 0) & (self._start[1] == 1), np.logical_and)
        self._started_at_default = {h.path: bool(defaults[i]) for h, i in self._items()}

    def look(self) -> None:
        """Read the present values; the ones of the look before become the last ones."""
        unread = [h for h in self._survey.handles if h.path not in self._index]
        if any(_pair(h) is not None for h in unread):
            self._take_up()
        self._last = self._now
        self._now = self._read()

    def drift(self, moment: str, epoch: Optional[int], steps: int) -> DriftLook:
        """Mean shift and log variance ratio of every BN against the start."""
        shift, ratio = self._measures()
        shifts, ratios = per_layer(shift, self._offsets)[0], per_layer(ratio, self._offsets)[0]
        return DriftLook(
            moment=moment,
            epoch=epoch,
            steps=steps,
            mean_shift={h.path: float(shifts[i]) for h, i in self._items()},
            log_variance_ratio={h.path: float(ratios[i]) for h, i in self._items()},
        )

    def movements(
        self, calls: Mapping[str, Sequence[CallSite]], steps: int
    ) -> Tuple[Movement, ...]:
        """One record per BN that can be read, in the order of the inventory.

        Gamma and beta are read again only where a BN that should move has not, after a step.
        """
        intents = self._intents(calls)
        moved = self._changed(self._start)
        moved_last = self._changed(self._last)
        shift, ratio = self._measures()
        shift_mean, shift_max = per_layer(shift, self._offsets)
        ratio_mean, _ = per_layer(ratio, self._offsets)
        finite = self._segments(
            np.isfinite(self._now[0]) & np.isfinite(self._now[1]), np.logical_and
        )
        suspicious = self._segments(self._now[1] <= self._floor(), np.logical_or)
        records = []
        for handle, i in self._items():
            want, why, ran = intents[handle.path]
            stuck = steps > 0 and want != INFERENCE and not moved[i]
            look_closer = not finite[i] or suspicious[i] or handle.path in self._sick
            health = self._health(handle, i) if look_closer else {}
            records.append(
                Movement(
                    path=handle.path,
                    expected=want,
                    why=why,
                    moved=bool(moved[i]),
                    moved_since_last=bool(moved_last[i]),
                    ran=ran,
                    affine_moved=self._affine_moved(handle) if stuck else None,
                    mean_shift=float(shift_mean[i]),
                    log_variance_ratio=float(ratio_mean[i]),
                    max_mean_shift=float(shift_max[i]),
                    started_at_default=self._started_at_default[handle.path],
                    **health,
                )
            )
        return tuple(records)

    # ---------------------------------------------------------------- internal
    def _intents(self, calls: Mapping[str, Sequence[CallSite]]) -> Dict[str, Tuple[str, str, str]]:
        """Path -> (expected, why, ran); worked out anew only where survey or calls are new."""
        inventory, seen = self._survey.inventory, {path: len(s) for path, s in calls.items()}
        known = self._known_intents
        if known is None or known[0] is not inventory or known[1] != seen:
            found = {}
            for norm in inventory.norms:
                sites = calls.get(norm.path)
                found[norm.path] = (*meant(norm, sites), did_run(norm, sites))
            known = self._known_intents = (inventory, seen, found)
        return known[2]

    def _items(self) -> List[Tuple[NormHandle, int]]:
        return [(handle, i) for i, handle in enumerate(self._readable)]

    def _read(self) -> Tuple[np.ndarray, np.ndarray]:
        pairs = [h.vectors() for h in self._readable]
        joined = self._engine.flat([p[0] for p in pairs] + [p[1] for p in pairs])
        half = len(joined) // 2
        return joined[:half], joined[half:]

    def follow(self, survey: Survey) -> None:
        """Go on with a later survey of the same model, which may know more BN than the first."""
        self._survey = survey

    def started_at_default(self, path: str) -> Optional[bool]:
        """Whether a BN had mean 0 and variance 1 at the start; None where it was never read."""
        return self._started_at_default.get(path)

    def _take_up(self) -> None:
        """BN built since the start began with mean 0 and variance 1, as every BN is built."""
        old = {h.path: i for h, i in self._items()}
        start, affine, offsets = self._start, self._affine, self._offsets
        sizes = {h.path: _channels(h) for h in self._readable}
        self.begin(self._survey.handles)
        mean, variance = (part.copy() for part in self._start)
        for handle, i in self._items():
            here = slice(self._offsets[i], self._offsets[i] + _channels(handle))
            j = old.get(handle.path)
            if j is None:
                mean[here], variance[here] = 0.0, 1.0
                self._affine.pop(handle.path)
            else:
                there = slice(offsets[j], offsets[j] + sizes[handle.path])
                mean[here], variance[here] = start[0][there], start[1][there]
                self._affine[handle.path] = affine[handle.path]
        self._start = (mean, variance)
        self._note_defaults()

    def _segments(self, values: np.ndarray, combine: Any) -> np.ndarray:
        if not len(self._offsets):
            return np.zeros(0, bool)
        return np.array(combine.reduceat(values, self._offsets), dtype=bool)

    def _changed(self, before: Tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Per BN: any bit of mean or variance differs, or is NaN where it was a number."""
        bits = _bits(self._now[0]) != _bits(before[0])
        bits |= _bits(self._now[1]) != _bits(before[1])
        return self._segments(bits, np.logical_or)

    def _measures(self) -> Tuple[np.ndarray, np.ndarray]:
        key = (id(self._now), id(self._start))
        if self._measured is None or self._measured[0] != key:
            with np.errstate(all="ignore"):
                shift = mean_shift(self._now[0], self._start[0], self._start[1], self._epsilon)
                ratio = log_variance_ratio(self._now[1], self._start[1], self._epsilon)
            self._measured = (key, shift, ratio, self._now, self._start)
        return self._measured[1], self._measured[2]

    def _floor(self) -> np.ndarray:
        """A cheap upper bound of each layer's dead threshold: its largest variance times 1e-6."""
        if not len(self._offsets):
            return np.zeros(0)
        top = np.maximum.reduceat(np.nan_to_num(self._now[1]), self._offsets)
        counts = np.diff(np.append(self._offsets, len(self._now[1])))
        return np.repeat(np.maximum(top, 0.0) * DEAD_RATIO, counts)

    def _affine_moved(self, handle: NormHandle) -> Optional[bool]:
        now, start = self._engine.state(handle), self._affine.get(handle.path)
        if start is None or (now.gamma is None and now.beta is None):
            return None
        return any(
            a is not None and b is not None and bool(np.any(_bits(a) != _bits(b)))
            for a, b in ((now.gamma, start.gamma), (now.beta, start.beta))
        )

    def _health(self, handle: NormHandle, i: int) -> Dict[str, Any]:
        """The close look at a BN with values that are not finite, negative or nearly 0."""
        end = self._offsets[i] + _channels(handle)
        mean = self._now[0][self._offsets[i] : end]
        variance = self._now[1][self._offsets[i] : end]
        state = self._engine.state(handle)
        bad = [
            name
            for name, values in (
                ("moving_mean", mean),
                ("moving_variance", variance),
                ("gamma", state.gamma),
                ("beta", state.beta),
            )
            if values is not None and not np.all(np.isfinite(values))
        ]
        usable = variance[np.isfinite(variance)]
        median = float(np.median(usable)) if len(usable) else float("nan")
        return {
            "nonfinite": tuple(bad),
            "negative_channels": int(np.sum(variance < 0)),
            "dead_channels": int(np.sum(dead_channels(mean, variance, state.gamma))),
            "min_variance": float(np.min(usable)) if len(usable) else float("nan"),
            "median_variance": median,
        }


def dead_channels(
    mean: np.ndarray, variance: np.ndarray, gamma: Optional[np.ndarray]
) -> np.ndarray:
    """Channels whose variance has collapsed though something still flows through them.

    A channel counts when its variance is not negative and below 1e-6 times the median of its
    layer. Left out, as nothing is wrong there: channels whose gamma is 0 (pruned), and
    channels that carry plain zeros, whose mean is 0 too against the layer's spread, unless
    all other channels still have their default statistics.

    Args:
        mean, variance: shape `(channels,)`. gamma: the same, or None.

    Returns:
        Bool, shape `(channels,)`.
    """
    finite = np.isfinite(variance) & np.isfinite(mean)
    if not np.any(finite):
        return np.zeros(len(variance), bool)
    median = float(np.median(variance[finite]))
    dead: np.ndarray = finite & (variance >= 0) & (variance < DEAD_RATIO * median)
    if not np.any(dead):
        return dead
    if gamma is not None:
        dead &= np.abs(gamma) > 1e-6 * max(1e-12, float(np.max(np.abs(gamma))))
    rest = finite & ~dead
    untouched = bool(np.all(mean[rest] == 0) and np.all(variance[rest] == 1))
    if not untouched:
        dead &= np.abs(mean) > 1e-3 * np.sqrt(max(median, 0.0))
    return dead


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
