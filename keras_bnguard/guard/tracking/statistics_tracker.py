"""Moving statistics of a model at the start and at each check, compared bit for bit."""

from __future__ import annotations

from typing import Any, Callable, Dict, FrozenSet, Mapping, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.refs import NormHandle
from keras_bnguard.backends.values.readers import LiveReader
from keras_bnguard.guard.tracking.change_screen import ChangeScreen, needs_closer_check
from keras_bnguard.guard.tracking.expected_modes import ExpectedModes
from keras_bnguard.guard.tracking.readable_norms import ReadableNorms, is_readable
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import (
    CallSite,
    DriftSnapshot,
    EmaBias,
    ExpectedMode,
    Moment,
    NormState,
    StatisticsChange,
)
from keras_bnguard.statistics.channel_health import channel_health
from keras_bnguard.statistics.drift import MAX_DISTANCE, DriftMeter
from keras_bnguard.statistics.ema import ema_bias
from keras_bnguard.statistics.layout import Vectors, bits

Calls = Mapping[str, Sequence[CallSite]]
Decay = Callable[[str, float], Tuple[Optional[NormState], float]]


class StatisticsTracker:
    """Moving mean and variance of all built BN of a model: at the start, last, and now.

    Args:
        snapshot: the model. BN that are not built yet are included at the first update that
            can read them.

    Attributes:
        screen: whether a check can show anything new.
    """

    screen: ChangeScreen
    _meter: DriftMeter
    _drift: Dict[str, np.ndarray]

    def __init__(self, snapshot: ModelSnapshot) -> None:
        self._backend = snapshot.backend
        self._snapshot = snapshot
        self._norms = ReadableNorms(snapshot.backend, snapshot.handles)
        self._start = self._last = self._now = self._norms.read()
        self._affine: Dict[str, NormState] = self._norms.states()
        self._nonfinite_affine = _nonfinite(self._affine)
        self._modes = ExpectedModes()
        self._measure_from_start()

    @property
    def states(self) -> Mapping[str, NormState]:
        """Path -> the vectors of each BN that could be read at the start."""
        return self._affine

    def trained(self, calls: Calls) -> Dict[str, NormState]:
        """Path -> mean and variance of each BN that should be updated and was, since the start."""
        modes = self._modes.of(self._snapshot.inventory, calls)
        changed = self._norms.layout.any(self._now.differs(self._start))
        found = {}
        for i, path in enumerate(self._norms.index):
            if changed[i] and modes[path].expected is ExpectedMode.TRAINING:
                here = self._norms.layout.slice_of(i)
                found[path] = NormState(self._now.mean[here], self._now.variance[here])
        return found

    @property
    def paths(self) -> Tuple[str, ...]:
        """Paths of the BN that can be read, in the order of the inventory."""
        return tuple(self._norms.index)

    def live_reader(self, model: Any) -> LiveReader:
        """A reader for `update` that also works between two batches of `fit`."""
        return self._norms.live_reader(model)

    def follow(self, snapshot: ModelSnapshot) -> None:
        """Go on with a later snapshot of the same model, which may have more BN."""
        self._snapshot = snapshot

    # ------------------------------------------------------------------ reading
    def update(self, values: Optional[np.ndarray] = None) -> None:
        """Take the present values; those of the update before become the last ones.

        Args:
            values: from `live_reader`, shape `(2 * channels,)`. Defaults to None: the model's
                own are read.
        """
        if any(h.path not in self._norms.index and is_readable(h) for h in self._snapshot.handles):
            self._include_built()
        self._last = self._now
        fits = values is not None and len(values) == len(self._now)
        self._now = Vectors(values) if fits and values is not None else self._norms.read()
        self._measure()

    def _include_built(self) -> None:
        """BN built since the start began with mean 0 and variance 1, as every BN is built."""
        before, start, affine = self._norms, self._start, self._affine
        self._norms = ReadableNorms(self._backend, self._snapshot.handles)
        self._now = self._norms.read()
        states = self._norms.states()
        self._nonfinite_affine = _nonfinite(states)
        self._affine = {path: affine[path] for path in states if path in affine}
        mean = np.zeros_like(self._now.mean)
        variance = np.ones_like(self._now.variance)
        for path, i in self._norms.index.items():
            if path in before.index:
                here = self._norms.layout.slice_of(i)
                there = before.layout.slice_of(before.index[path])
                mean[here], variance[here] = start.mean[there], start.variance[there]
        self._start = Vectors(np.concatenate([mean, variance]))
        self._measure_from_start()

    def _measure_from_start(self) -> None:
        start = self._start
        self._meter = DriftMeter(start.mean, start.variance, self._norms.epsilon)
        self.screen = ChangeScreen(self._norms.layout, start)
        self._measure()

    def _measure(self) -> None:
        """Drift of each layer since the start, by name of the measure."""
        layout = self._norms.layout
        channels = self._meter.measure(self._now.mean, self._now.variance)
        self._drift = {name: layout.mean(v) for name, v in channels._asdict().items()}
        self._drift["max_mean_shift"] = layout.largest(channels.mean_shift)

    # ----------------------------------------------------------------- answers
    def drift(self, moment: Moment, epoch: Optional[int], steps: int) -> DriftSnapshot:
        """How far every BN is from the start."""
        return DriftSnapshot(
            moment=moment,
            epoch=epoch,
            steps=steps,
            distance=self._by_path("distance"),
            mean_shift=self._by_path("mean_shift"),
            log_variance_ratio=self._by_path("log_variance_ratio"),
        )

    def _by_path(self, measure: str) -> Dict[str, float]:
        return dict(zip(self._norms.index, self._drift[measure].tolist()))

    def start_at_default(self) -> Dict[str, bool]:
        """Path -> whether a BN had mean 0 and variance 1 at the start."""
        at_default = self._norms.layout.all((self._start.mean == 0) & (self._start.variance == 1))
        return dict(zip(self._norms.index, at_default.tolist()))

    def is_unchanged(self, calls: Calls, steps: int) -> bool:
        """Whether this update shows every BN as the last one did, and nothing wrong with any.

        Rules that read nothing but statistics can then find nothing new.
        """
        modes = self._modes.of(self._snapshot.inventory, calls)
        at_default = np.array(list(self.start_at_default().values()), dtype=bool)
        unchanged = self.screen.is_unchanged(
            self._now,
            # From default statistics every BN drifts far, and no rule reports it.
            drifted=(self._drift["distance"] > MAX_DISTANCE) & ~at_default,
            should_update=np.array(
                [modes[path].expected is ExpectedMode.TRAINING for path in self._norms.index], bool
            ),
            context=(self._modes.version, steps > 0),
        )
        return unchanged and not self._nonfinite_affine

    def changes(self, calls: Calls, steps: int) -> Tuple[StatisticsChange, ...]:
        """One record per BN that can be read, in the order of the inventory.

        Gamma and beta are read again only where a BN that should be updated was not, after a
        step, and for BN with values that are not valid.
        """
        modes = self._modes.of(self._snapshot.inventory, calls)
        layout = self._norms.layout
        changed = layout.any(self._now.differs(self._start))
        changed_last = layout.any(self._now.differs(self._last))
        closer = needs_closer_check(layout, self._now)
        at_default = self.start_at_default()
        records = []
        for i, handle in enumerate(self._norms.handles):
            expected, why, ran = modes[handle.path]
            stuck = steps > 0 and expected is ExpectedMode.TRAINING and not changed[i]
            check_channels = closer[i] or handle.path in self._nonfinite_affine
            records.append(
                StatisticsChange(
                    path=handle.path,
                    expected=expected,
                    why=why,
                    changed=bool(changed[i]),
                    changed_since_last=bool(changed_last[i]),
                    ran=ran,
                    affine_changed=self._affine_changed(handle) if stuck else None,
                    started_at_default=at_default[handle.path],
                    mean_shift=float(self._drift["mean_shift"][i]),
                    max_mean_shift=float(self._drift["max_mean_shift"][i]),
                    log_variance_ratio=float(self._drift["log_variance_ratio"][i]),
                    distance=float(self._drift["distance"][i]),
                    **(self._health(handle, i) if check_channels else {}),
                )
            )
        return tuple(records)

    def ema_biases(
        self, steps: int, since_last: int, updates: Mapping[str, int], decay: Decay
    ) -> Tuple[EmaBias, ...]:
        """How far each BN with a momentum is behind its batches.

        Args:
            steps: training steps since the start.
            since_last: training steps since the update before this one.
            updates: path -> updates of the BN in a step; 1 for those that are not in it.
            decay: takes a path and the share of its start that this run left; returns the
                statistics before all runs, and the share that is left of these.
        """
        found = []
        changed = self._norms.layout.any(self._now.differs(self._start))
        for i, handle in enumerate(self._norms.handles):
            momentum = handle.settings["momentum"]
            if momentum is None or not 0.0 < momentum < 1.0:
                continue
            runs = max(1, updates.get(handle.path, 1))
            here = self._norms.layout.slice_of(i)
            first = (self._start.mean[here], self._start.variance[here])
            left = momentum ** (steps * runs)
            if changed[i]:
                before, left = decay(handle.path, left)
                if before is not None and before.mean is not None and before.variance is not None:
                    first = (before.mean, before.variance)
            found.append(
                ema_bias(
                    handle.path,
                    (left, momentum ** (max(since_last, 1) * runs)),
                    first,
                    *((part.mean[here], part.variance[here]) for part in (self._last, self._now)),
                    epsilon=float(handle.settings["epsilon"] or 0.0),
                    steps=since_last,
                )
            )
        return tuple(found)

    # ---------------------------------------------------------------- internal
    def _affine_changed(self, handle: NormHandle) -> Optional[bool]:
        now, start = self._backend.values.state(handle), self._affine.get(handle.path)
        if start is None or (now.gamma is None and now.beta is None):
            return None
        return any(
            a is not None and b is not None and bool(np.any(bits(a) != bits(b)))
            for a, b in ((now.gamma, start.gamma), (now.beta, start.beta))
        )

    def _health(self, handle: NormHandle, i: int) -> Dict[str, Any]:
        here = self._norms.layout.slice_of(i)
        state = self._backend.values.state(handle)
        return channel_health(self._now.mean[here], self._now.variance[here], state)


def _nonfinite(states: Mapping[str, NormState]) -> FrozenSet[str]:
    """Paths of BN whose gamma or beta is not finite."""
    return frozenset(
        path
        for path, state in states.items()
        if any(v is not None and not np.all(np.isfinite(v)) for v in (state.gamma, state.beta))
    )
