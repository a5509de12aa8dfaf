"""The data side of a guarded run: what is peeked at when it begins, and used again at its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, FrozenSet, Optional

from keras_bnguard.backends.patches.fit_scope import FitData, fit_data
from keras_bnguard.data.containers.registry import container_of, readable_container
from keras_bnguard.data.measure import SECONDS, is_built, measure
from keras_bnguard.data.sample import DataSample, SampleLimits, sample
from keras_bnguard.model.expected_mode import expected_mode
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import TRAIN_START, DataFacts, DataPart, ExpectedMode, Moment, MomentKind
from keras_bnguard.rules.predicates import does_not_fit


class FROM_FIT:
    """Stands for the data of `fit` itself, which nobody asked us to look at."""


BEFORE_TRAINING = frozenset({DataPart.NORMS, DataPart.LABELS, DataPart.BATCH_DEPENDENCE})
AFTER_TRAINING = frozenset({DataPart.NORMS, DataPart.GAP})
UNASKED = SampleLimits(batches=8, seconds=5.0, max_bytes=64 * 2**20)


class DataSampling:
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
            readable_container(data)
        self._data = data
        self._seen: Optional[DataSample] = None
        self._late: FrozenSet[DataPart] = frozenset()

    def at_start(self, snapshot: ModelSnapshot) -> Optional[DataFacts]:
        """Read the data and measure what can be known before training."""
        self._seen, self._late = None, frozenset()
        if self._data is None:
            return None
        feed = fit_data(snapshot.model)
        in_order = feed is not None and not feed.shuffle
        size = feed.batch_size if feed is not None else None
        if self._asked:
            self._seen = sample(self._data, batch_size=size, in_order=in_order)
            return self._measure(snapshot, BEFORE_TRAINING, SECONDS)
        return self._unasked(snapshot, feed, in_order)

    def _measure(
        self, snapshot: ModelSnapshot, parts: FrozenSet[DataPart], seconds: float
    ) -> DataFacts:
        """What can be known now; what a model that is not built cannot tell is for `late`."""
        assert self._seen is not None
        facts = measure(
            snapshot,
            self._seen,
            parts=parts,
            moment=TRAIN_START,
            seconds=seconds,
        )
        find_other_trainers(snapshot, facts)
        if self._seen.batches and not is_built(snapshot):
            self._late = parts
        return facts

    def _unasked(
        self, snapshot: ModelSnapshot, feed: Optional[FitData], in_order: bool
    ) -> Optional[DataFacts]:
        if feed is None:
            return None
        container = container_of(feed.x)
        if container.why_not_unasked:
            missing = {DataPart.BATCHES: container.why_not_unasked}
            return DataFacts(kind=container.kind, missing=missing)
        data = feed.x if feed.y is None else (feed.x, feed.y)
        self._seen = sample(
            data,
            batch_size=feed.batch_size,
            in_order=in_order,
            limits=UNASKED,
        )
        trained = any(norm.built and norm.at_default is False for norm in snapshot.inventory.norms)
        parts = frozenset({DataPart.LABELS, DataPart.NORMS} if trained else {DataPart.LABELS})
        facts = self._measure(snapshot, parts, UNASKED.seconds)
        if not self._late:
            self._seen = None
        if not trained:
            facts = replace(
                facts, missing={DataPart.NORMS: "no BN has trained statistics", **facts.missing}
            )
        return facts

    def late(self, snapshot: ModelSnapshot) -> Optional[DataFacts]:
        """Once, as soon as a step has built a model that was not: what it could not tell before.

        Frozen BN still have the statistics they began with; live ones are one epoch further.
        """
        parts, self._late = self._late, frozenset()
        seen = self._seen
        if not self._asked:
            self._seen = None
        if seen is None or not parts:
            return None
        seconds = SECONDS if self._asked else UNASKED.seconds
        facts = measure(
            snapshot, seen, parts=parts, moment=Moment(MomentKind.EPOCH_END, 0), seconds=seconds
        )
        find_other_trainers(snapshot, facts)
        return facts

    def at_end(self, snapshot: ModelSnapshot) -> Optional[DataFacts]:
        """Measure what only a trained model tells, on the batches that were read at its start."""
        seen, self._seen = self._seen, None
        if seen is None or not self._asked:
            return None
        facts = measure(
            snapshot,
            seen,
            parts=AFTER_TRAINING,
            moment=Moment(MomentKind.TRAIN_END),
            seconds=SECONDS,
        )
        find_other_trainers(snapshot, facts)
        return facts


def find_other_trainers(snapshot: ModelSnapshot, facts: DataFacts) -> None:
    """Look for other models that train a frozen BN, as in a GAN, where its statistics do not fit.

    That walks every object of the process, so it is done on suspicion only.
    """
    frozen = {
        norm.path
        for norm in snapshot.inventory.norms
        if expected_mode(norm)[0] is ExpectedMode.INFERENCE
    }
    if any(does_not_fit(item) for item in facts.norms if item.path in frozen):
        snapshot.shared_norms()
