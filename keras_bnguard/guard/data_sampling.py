"""The data side of a guarded run: what is peeked at when it begins, and used again at its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, FrozenSet, Mapping, Optional

from keras_bnguard.backends.patches.fit_scope import FitData, fit_arguments, fit_feed
from keras_bnguard.data.batches import checked, is_arrays
from keras_bnguard.data.measure import (
    BATCHES,
    SECONDS,
    DataSample,
    is_built,
    measure,
    replicas_of,
    sample,
)
from keras_bnguard.guard.run import GuardRun
from keras_bnguard.recalibration.callback import Recalibrate
from keras_bnguard.records import DataFacts


class FROM_FIT:
    """Stands for the data of `fit` itself, which nobody asked us to look at."""


UNASKED_BATCHES = 8
UNASKED_SECONDS = 5.0
UNASKED_BYTES = 64 * 2**20


class DataLook:
    """Reads the data once, and measures on it before the first step and after the last.

    Unasked, only arrays are read, 8 batches of them: reading anything else runs code of the
    user's, may take long and may have effects. The model is run on them only where a BN has
    trained statistics to compare with, and never for a loss.

    Args:
        data: what the user gave, None, or `FROM_FIT`.
    """

    def __init__(self, data: Any) -> None:
        self._asked = data is not None and data is not FROM_FIT
        if self._asked:
            checked(data)
        self._data = data
        self._seen: Optional[DataSample] = None
        self._late: FrozenSet[str] = frozenset()

    def hyper(self, model: Any, params: Mapping[str, Any]) -> Dict[str, Any]:
        """The settings of `fit` that a callback is told, with what its arguments say besides.

        batch_size, samples: of arrays; steps_per_epoch, shuffle: as given; replicas: how many
        share a batch; recalibrates: a `Recalibrate` takes new statistics when training is over.
        """
        known: Dict[str, Any] = {**params, "replicas": replicas_of(model)}
        arguments, feed = fit_arguments(model), fit_feed(model)
        if arguments is not None:
            known["recalibrates"] = any(isinstance(c, Recalibrate) for c in arguments.callbacks)
        if feed is not None:
            known["shuffle"] = feed.shuffle
            known["steps_per_epoch"] = feed.steps_per_epoch
            if is_arrays(feed.x):
                known["batch_size"] = feed.batch_size or 32
                known["samples"] = _rows(feed.x)
        return known

    def begin(self, run: GuardRun, model: Any) -> Optional[DataFacts]:
        """Read the data and measure what can be known before training."""
        self._seen, self._late = None, frozenset()
        if self._data is None:
            return None
        feed = fit_feed(model)
        in_order = feed is not None and not feed.shuffle
        size = feed.batch_size if feed is not None else None
        if self._asked:
            self._seen = sample(self._data, batch_size=size, in_order=in_order, limit=BATCHES)
            return self._measure(run, frozenset({"norms", "labels", "alone"}), SECONDS)
        return self._unasked(run, feed, in_order)

    def _measure(self, run: GuardRun, parts: FrozenSet[str], seconds: float) -> DataFacts:
        """What can be known now; what a model that is not built cannot tell is for `late`."""
        assert self._seen is not None
        facts = measure(
            run.snapshot, self._seen, parts=parts, moment="train begin", seconds=seconds
        )
        if self._seen.batches and not is_built(run.snapshot):
            self._late = parts
        return facts

    def _unasked(
        self, run: GuardRun, feed: Optional[FitData], in_order: bool
    ) -> Optional[DataFacts]:
        if feed is None:
            return None
        if not is_arrays(feed.x):
            kind = type(feed.x).__name__
            why = (
                f"{kind} can be read only once and is left to training: give BNGuard(data=...) a "
                "function that returns a new one"
                if hasattr(feed.x, "__next__")
                else f"{kind} is not read without being asked: BNGuard(data=...) looks at it"
            )
            return DataFacts(kind=kind, missing={"batches": why})
        data = feed.x if feed.y is None else (feed.x, feed.y)
        self._seen = sample(
            data,
            batch_size=feed.batch_size,
            in_order=in_order,
            limit=UNASKED_BATCHES,
            seconds=UNASKED_SECONDS,
            max_bytes=UNASKED_BYTES,
        )
        trained = any(
            norm.built and norm.at_default is False for norm in run.snapshot.inventory.norms
        )
        parts: FrozenSet[str] = frozenset({"labels", "norms"} if trained else {"labels"})
        facts = self._measure(run, parts, UNASKED_SECONDS)
        if not self._late:
            self._seen = None
        if not trained:
            facts = replace(
                facts, missing={"norms": "no BN has trained statistics", **facts.missing}
            )
        return facts

    def late(self, run: GuardRun) -> Optional[DataFacts]:
        """Once, as soon as a step has built a model that was not: what it could not tell before.

        Frozen BN still have the statistics they began with; live ones are one epoch further.
        """
        parts, self._late = self._late, frozenset()
        seen = self._seen
        if not self._asked:
            self._seen = None
        if seen is None or not parts:
            return None
        seconds = SECONDS if self._asked else UNASKED_SECONDS
        return measure(run.snapshot, seen, parts=parts, moment="first epoch", seconds=seconds)

    def end(self, run: GuardRun) -> Optional[DataFacts]:
        """Measure what only a trained model tells, on the batches that were read at its start."""
        seen, self._seen = self._seen, None
        if seen is None or not self._asked:
            return None
        parts = frozenset({"norms", "gap"})
        return measure(run.snapshot, seen, parts=parts, moment="train end", seconds=SECONDS)


def _rows(x: Any) -> Optional[int]:
    while isinstance(x, (dict, list, tuple)):
        if not x:
            return None
        x = next(iter(x.values())) if isinstance(x, dict) else x[0]
    try:
        return int(x.shape[0])
    except Exception:
        return None
