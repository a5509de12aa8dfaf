"""Whether a check can show anything new: the accelerator behind `every=N`.

A rule that reads nothing but statistics finds nothing new while every BN is as it was at the last
check. That is cheaper to find out than to evaluate the rules, and on JAX the device can answer it
without being waited for. It buys, with `every=1` on JAX, about 1 ms of a step of 2 to 3 ms
(`benchmarks/overhead.py --every 1`); with `every="epoch"` it buys nothing that can be measured.
Without this file, `MonitoredRun.needs_check` is always true and every check evaluates every rule.
"""

from __future__ import annotations

from typing import Callable, Optional, Tuple

import numpy as np

from keras_bnguard.backends.values.readers import LiveReader, Screen
from keras_bnguard.statistics.channel_health import DEAD_RATIO
from keras_bnguard.statistics.layout import ChannelLayout, Vectors

FULL_AT_FIRST = 20
"""So many first checks between batches are made in full."""
FULL_EVERY = 128
"""After that, every check of this number is made in full, which measures drift."""


class CheckPace:
    """Which of the checks between batches are due in full, whatever the statistics are."""

    def __init__(self) -> None:
        self._count = 0

    def is_due(self) -> bool:
        """Count one more check; return whether it is to be made in full."""
        self._count += 1
        return self._count <= FULL_AT_FIRST or self._count % FULL_EVERY == 0


class ChangeScreen:
    """Remembers how every BN was at the last check.

    Args:
        layout: the channels of the BN.
        start: their statistics at the start.
    """

    def __init__(self, layout: ChannelLayout, start: Vectors) -> None:
        self._layout = layout
        self._start = start
        self._now = start
        self._updated: Optional[np.ndarray] = None
        self._invalid = self._drifted = np.zeros(0, bool)
        self._context: Tuple[int, bool] = (0, False)
        self._screen: Optional[Screen] = None

    def is_unchanged(
        self,
        now: Vectors,
        drifted: np.ndarray,
        should_update: np.ndarray,
        context: Tuple[int, bool],
    ) -> bool:
        """Whether this check shows every BN as the last one did, and nothing wrong with any.

        Args:
            now: the statistics at this check.
            drifted: whether a BN is beyond the drift limit, shape `(layers,)`.
            should_update: whether a BN should update its statistics, the same shape.
            context: (version of what is known of the calls, whether a step was taken).

        Returns:
            True where the updated, the invalid and the drifted BN are the same as at the last
            check, none is invalid, none that should be updated is not, and the context is the
            same.
        """
        updated = self._layout.any(now.differs(self._start))
        invalid = needs_closer_check(self._layout, now)
        unchanged = (
            self._updated is not None
            and context == self._context
            and np.array_equal(updated, self._updated)
            and np.array_equal(invalid, self._invalid)
            and np.array_equal(drifted, self._drifted)
            and not np.any(invalid)
            and not (context[1] and np.any(should_update & ~updated))
        )
        self._now, self._updated, self._invalid = now, updated, invalid
        self._drifted, self._context, self._screen = drifted, context, None
        return unchanged

    def is_settled(self, reader: LiveReader) -> bool:
        """Whether the present values show every BN as the last check did, drift left aside.

        JAX is asked without waiting, so that a change may be reported some batches later.

        Args:
            reader: of the same vectors.
        """
        screen = self.screen()
        passes = None if screen is None else reader.ask(screen)
        return self.passes(reader.read()) if passes is None else passes

    def passes(self, values: np.ndarray) -> bool:
        """The same for values in hand, shape `(2 * channels,)`."""
        if self._updated is None or len(values) != len(self._start):
            return False
        now = Vectors(values)
        return np.array_equal(
            self._layout.any(now.differs(self._start)), self._updated
        ) and np.array_equal(needs_closer_check(self._layout, now), self._invalid)

    def screen(self) -> Optional[Screen]:
        """`passes` as limits that a device can compare with; None before the first check.

        It is the same object until the next check. A trainable BN that is back at
        its start passes it.
        """
        if self._updated is None:
            return None
        if self._screen is None:
            dtype = self._now.mean.dtype
            floor = np.maximum(self._layout.largest(self._now.variance), 0.0) * DEAD_RATIO
            floor[self._invalid] = -np.inf
            # Every finite mean is at or above the smallest number of its dtype.
            lowest = np.where(self._invalid, -np.inf, np.finfo(dtype).min)
            floors = np.concatenate([self._layout.repeat(each) for each in (lowest, floor)])
            frozen = np.tile(self._layout.repeat(~self._updated), 2)
            self._screen = Screen(self._start.joined(), frozen, floors.astype(dtype))
        return self._screen


def needs_closer_check(layout: ChannelLayout, now: Vectors) -> np.ndarray:
    """BN with a value that is not finite, negative or tiny beside its largest variance.

    The largest variance times 1e-6 is an upper bound of what counts as dead, and cheaper than
    the median.

    Returns:
        Bool, shape `(layers,)`.
    """
    if not len(layout) or _all_valid(now):
        return np.zeros(len(layout), bool)
    return ~_valid(now, layout.smallest, layout.largest)


def _all_valid(now: Vectors) -> bool:
    """One comparison for the whole model: sufficient, not necessary."""
    return bool(_valid(now, np.min, np.max))


def _valid(
    now: Vectors,
    smallest: Callable[[np.ndarray], np.ndarray],
    largest: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    # Comparisons with NaN are false, so this computes what is valid.
    top = largest(now.variance)
    valid = (smallest(now.variance) > np.maximum(top, 0.0) * DEAD_RATIO) & np.isfinite(top)
    return np.asarray(valid & np.isfinite(largest(np.abs(now.mean))))
