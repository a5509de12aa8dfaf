"""Reading the statistics of a model while it trains."""

from __future__ import annotations

from typing import Optional

import numpy as np

from keras_bnguard.backends.values.readers import LiveReader
from keras_bnguard.guard.tracking.change_screen import CheckPace
from keras_bnguard.guard.tracking.trackers import Trackers


class LiveReading:
    """One reader for the checks of a phase, made when it is needed."""

    def __init__(self) -> None:
        self._reader: Optional[LiveReader] = None
        self._pace = CheckPace()

    def renew(self) -> None:
        """Forget where the backend keeps the values: an epoch began, or flags changed."""
        if self._reader is not None:
            self._reader.renew()

    def forget(self) -> None:
        """Forget which vectors are read: a phase began."""
        self._reader = None

    def needs_check(self, trackers: Trackers) -> bool:
        """Whether a check between two batches can show anything new."""
        if self._pace.is_due() or trackers.step_has_failed:
            return True
        reader = self._reader_of(trackers)
        return reader is None or not trackers.statistics.screen.is_settled(reader)

    def read(self, trackers: Trackers, between_batches: bool) -> Optional[np.ndarray]:
        """The present values, shape `(2 * channels,)`; None where the model's own can be read.

        Args:
            trackers: of the phase.
            between_batches: whether the backend may keep the values outside the model.
        """
        reader = self._reader_of(trackers) if between_batches else None
        if reader is not None:
            return reader.read()
        trackers.snapshot.backend.values.sync(trackers.snapshot.model)
        return None

    def _reader_of(self, trackers: Trackers) -> Optional[LiveReader]:
        if self._reader is None and trackers.snapshot.inventory.built:
            self._reader = trackers.statistics.live_reader(trackers.snapshot.model)
        return self._reader
