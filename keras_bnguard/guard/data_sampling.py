"""The data of a run: sampled once at its start, measured on at its start and its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, FrozenSet, Optional

from keras_bnguard.backends.patches.fit_scope import FitData, fit_data
from keras_bnguard.data.containers.registry import container_of, readable_container
from keras_bnguard.data.measure import SECONDS, is_built, measure
from keras_bnguard.data.sample import DataSample, SampleLimits, sample
from keras_bnguard.guard.repeated_fits import RepeatedFits
from keras_bnguard.model.expected_mode import expected_mode
from keras_bnguard.model.kept import kept_with
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import TRAIN_START, DataFacts, DataPart, ExpectedMode, Moment, MomentKind
from keras_bnguard.rules.predicates import does_not_fit


class FROM_FIT:
    """Stands for the data of `fit` itself, which the user did not give to the guard."""


BEFORE_TRAINING = frozenset({DataPart.NORMS, DataPart.LABELS, DataPart.BATCH_DEPENDENCE})
AFTER_TRAINING = frozenset({DataPart.NORMS, DataPart.GAP})
OF_FIT = SampleLimits(batches=8, seconds=5.0, max_bytes=64 * 2**20)


class DataSampling:
    """Reads the data once, and measures on it before the first step and after the last.

    Of the data of `fit`, only arrays are read, 8 batches of them: reading anything else runs
    code of the user, may take long and may have effects. The model is run on them only where a
    BN has trained statistics to compare with, and never for a loss.

    Args:
        data: what the user gave, None, or `FROM_FIT`.

    Raises:
        DataError: `data` is nothing that batches can be read from.
    """

    def __init__(self, data: Any) -> None:
        self._given = data is not None and data is not FROM_FIT
        if self._given:
            readable_container(data)
        self._data = data
        self._sample: Optional[DataSample] = None
        self._late: FrozenSet[DataPart] = frozenset()

    def at_start(self, snapshot: ModelSnapshot) -> Optional[DataFacts]:
        """Read the data and measure what can be known before training."""
        self._sample, self._late = None, frozenset()
        if self._data is None:
            return None
        training_data = fit_data(snapshot.model)
        in_order = training_data is not None and not training_data.shuffle
        size = training_data.batch_size if training_data is not None else None
        if self._given:
            self._sample = sample(self._data, batch_size=size, in_order=in_order)
            return self._measure(snapshot, BEFORE_TRAINING, SECONDS)
        return self._sample_fit_data(snapshot, training_data, in_order)

    def _measure(
        self, snapshot: ModelSnapshot, parts: FrozenSet[DataPart], seconds: float
    ) -> DataFacts:
        """What can be measured now; what needs the model to be built is left to `late`."""
        assert self._sample is not None
        facts = measure(
            snapshot,
            self._sample,
            parts=parts,
            moment=TRAIN_START,
            seconds=seconds,
        )
        find_other_trainers(snapshot, facts)
        if self._sample.batches and not is_built(snapshot):
            self._late = parts
        return facts

    def _sample_fit_data(
        self, snapshot: ModelSnapshot, training_data: Optional[FitData], in_order: bool
    ) -> Optional[DataFacts]:
        if training_data is None:
            return None
        container = container_of(training_data.x)
        if container.why_not_unasked:
            missing = {DataPart.BATCHES: container.why_not_unasked}
            return DataFacts(kind=container.kind, missing=missing)
        data = training_data.x if training_data.y is None else (training_data.x, training_data.y)
        self._sample = sample(
            data,
            batch_size=training_data.batch_size,
            in_order=in_order,
            limits=OF_FIT,
        )
        why = _why_not_run(snapshot, self._sample)
        parts = frozenset({DataPart.LABELS} if why else {DataPart.LABELS, DataPart.NORMS})
        facts = self._measure(snapshot, parts, OF_FIT.seconds)
        if not self._late:
            self._sample = None
        return replace(facts, missing={DataPart.NORMS: why, **facts.missing}) if why else facts

    def late(self, snapshot: ModelSnapshot) -> Optional[DataFacts]:
        """Once, as soon as a step has built the model: what could not be measured before.

        Frozen BN still have the statistics of the start; trainable ones are one epoch further.
        """
        parts, self._late = self._late, frozenset()
        sampled = self._sample
        if not self._given:
            self._sample = None
        if sampled is None or not parts:
            return None
        seconds = SECONDS if self._given else OF_FIT.seconds
        facts = measure(
            snapshot, sampled, parts=parts, moment=Moment(MomentKind.EPOCH_END, 0), seconds=seconds
        )
        find_other_trainers(snapshot, facts)
        return facts

    def at_end(self, snapshot: ModelSnapshot) -> Optional[DataFacts]:
        """Measure what needs a trained model, on the batches that were read at the start."""
        sampled, self._sample = self._sample, None
        if sampled is None or not self._given:
            return None
        facts = measure(
            snapshot,
            sampled,
            parts=AFTER_TRAINING,
            moment=Moment(MomentKind.TRAINING_END),
            seconds=SECONDS,
        )
        find_other_trainers(snapshot, facts)
        return facts


def _why_not_run(snapshot: ModelSnapshot, sampled: DataSample) -> str:
    """Why the model is not run on the data of this `fit`; empty where it is."""
    if not any(norm.built and norm.at_default is False for norm in snapshot.inventory.norms):
        return "no BN has trained statistics"
    repeated = kept_with(snapshot.model, RepeatedFits)
    if sampled.batches and not repeated.is_due(snapshot.inventory, sampled):
        return "the same model was checked on data of this kind in a fit before"
    return ""


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
