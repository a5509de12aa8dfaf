"""Measure on a sample of the user's data what the data rules need."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Dict, FrozenSet, List, Optional

import numpy as np

from keras_bnguard.backends.values.restore import SavedModelState, observing
from keras_bnguard.data import tree
from keras_bnguard.data.batch import Batch
from keras_bnguard.data.labels import describe_labels
from keras_bnguard.data.model_inputs import check_inputs
from keras_bnguard.data.probes import (
    Deadline,
    measure_batch_dependence,
    measure_gap,
    measure_norm_inputs,
    trainable_paths,
)
from keras_bnguard.data.sample import DataSample, one_line
from keras_bnguard.errors import UnsupportedModelError
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import AUDIT, DataFacts, DataPart, Moment

SECONDS = 30.0
"""No new batch is begun after this time, for each part."""
PARTS = frozenset(DataPart) - {DataPart.BATCHES}
RUNS_THE_MODEL = (DataPart.NORMS, DataPart.BATCH_DEPENDENCE, DataPart.GAP)


def measure(
    snapshot: ModelSnapshot,
    sampled: DataSample,
    *,
    parts: FrozenSet[DataPart] = PARTS,
    moment: Moment = AUDIT,
    seconds: float = SECONDS,
    replicas: Optional[int] = None,
) -> DataFacts:
    """Measure what is asked for on sampled batches; never raises and changes nothing.

    Args:
        snapshot: the model as it is now.
        sampled: the batches.
        parts: what to measure. Defaults to all.
        moment: when it is measured, for the record.
        seconds: no batch is begun after so long, per part.
        replicas: how many share a batch. Defaults to None: as the model's strategy has.

    Returns:
        `DataFacts`; a part that could not be measured has its reason in `missing`.
    """
    replicas = replicas or replicas_of(snapshot.model)
    facts = DataFacts(kind=sampled.kind, moment=moment, replicas=replicas, notes=sampled.notes)
    if sampled.why_empty or not sampled.batches:
        why = sampled.why_empty or "there is no batch"
        return replace(facts, missing={DataPart.BATCHES: why})
    batches = sampled.batches
    facts = replace(
        facts,
        rows=sum(batch.rows for batch in batches),
        batches=len(batches),
        full_rows=batches[0].rows,
        last_rows=sampled.last_rows,
        samples=sampled.samples,
        ordered=sampled.ordered,
        **_range(batches[0].x),
    )
    measuring = _Measuring(snapshot, batches, facts, seconds)
    if DataPart.LABELS in parts:
        measuring.labels()
    running = parts.intersection(RUNS_THE_MODEL)
    why = _why_not_run(snapshot, batches[0]) if running else ""
    if why:
        measuring.missing.update((part, why) for part in running)
    elif running:
        measuring.run_model(running)
    return replace(measuring.facts, missing=measuring.missing)


class _Measuring:
    """Facts under way: each part is added to them, or the reason why it is missing.

    Args:
        snapshot: the model.
        batches: at least one.
        facts: what is known without running the model.
        seconds: no batch is begun after so long, per part.
    """

    def __init__(
        self, snapshot: ModelSnapshot, batches: List[Batch], facts: DataFacts, seconds: float
    ) -> None:
        self._snapshot, self._batches, self._seconds = snapshot, batches, seconds
        self.facts = facts
        self.missing: Dict[DataPart, str] = {}

    def labels(self) -> None:
        self._attempt(
            DataPart.LABELS,
            "the labels could not be read",
            lambda: {"labels": describe_labels(self._batches)},
        )

    def run_model(self, parts: FrozenSet[DataPart]) -> None:
        """Measure the parts that need the model's outputs; all of its state is restored."""
        try:
            with observing(self._snapshot.backend, self._snapshot.model) as state:
                self._run(state, parts)
        except UnsupportedModelError as error:
            self.missing.update((part, str(error)) for part in parts)

    def _run(self, state: SavedModelState, parts: FrozenSet[DataPart]) -> None:
        if DataPart.NORMS in parts:
            self._attempt(DataPart.NORMS, "the model did not run on the data", self._norms)
        if DataPart.NORMS in self.missing:
            return
        if DataPart.BATCH_DEPENDENCE in parts:
            self._attempt(
                DataPart.BATCH_DEPENDENCE,
                "the model did not run on one row",
                lambda: {
                    "batch_dependence": measure_batch_dependence(
                        self._snapshot, self._batches[0], state.rewind
                    )
                },
            )
        if DataPart.GAP in parts:
            why = _why_no_gap(self._snapshot, self._batches)
            if why:
                self.missing[DataPart.GAP] = why
            else:
                self._attempt(
                    DataPart.GAP, "the loss could not be computed", lambda: self._gap(state)
                )

    def _norms(self) -> Dict[str, Any]:
        deadline = Deadline(self._seconds)
        norms, ran = measure_norm_inputs(
            self._snapshot, self._batches, deadline, self.facts.replicas
        )
        full = sum(batch.rows == self._batches[0].rows for batch in self._batches)
        if ran == full:
            return {"norms": norms}
        note = f"the model ran on {ran} of {full} batches in {self._seconds:g} s"
        return {"norms": norms, "notes": (*self.facts.notes, note)}

    def _gap(self, state: SavedModelState) -> Dict[str, Any]:
        trainable = trainable_paths(self._snapshot)
        gap = measure_gap(
            self._snapshot, self._batches, trainable, Deadline(self._seconds), state.rewind
        )
        return {"gap": gap}

    def _attempt(
        self, part: DataPart, failure: str, measured: Callable[[], Dict[str, Any]]
    ) -> None:
        try:
            self.facts = replace(self.facts, **measured())
        except Exception as error:
            self.missing[part] = f"{failure}: {one_line(error)}"


def _why_no_gap(snapshot: ModelSnapshot, batches: List[Batch]) -> str:
    if batches[0].y is None:
        return "the data has no labels"
    if not snapshot.inventory.compiled or getattr(snapshot.model, "loss", None) is None:
        return "the model has no compiled loss"
    if not trainable_paths(snapshot):
        return "no BN is in training mode"
    return ""


def _why_not_run(snapshot: ModelSnapshot, batch: Batch) -> str:
    """Why the model cannot be run, as far as that is known before it is tried."""
    if not snapshot.inventory.norms:
        return "the model has no BN"
    if not is_built(snapshot):
        return "the model is not built yet"
    values = np.asarray(tree.first_leaf(batch.x))
    if values.dtype.kind == "f" and values.size and not np.isfinite(values).any():
        return "no value of the data is a number: all are NaN or infinite"
    try:
        snapshot.backend.values.sync(snapshot.model)
        check_inputs(snapshot.model, batch)
    except Exception as error:
        return str(error)
    return ""


def is_built(snapshot: ModelSnapshot) -> bool:
    """Whether the model and all its BN have their variables."""
    inventory = snapshot.inventory
    return inventory.built and all(norm.built for norm in inventory.norms)


def replicas_of(model: Any) -> int:
    """How many replicas share a batch under the model's distribution strategy."""
    strategy = getattr(model, "distribute_strategy", None)
    return int(getattr(strategy, "num_replicas_in_sync", 1) or 1)


def _range(x: Any) -> Dict[str, Any]:
    """Type and range of the first input."""
    values = np.asarray(tree.first_leaf(x))
    if values.dtype.kind not in "biuf" or not values.size:
        return {"dtype": str(values.dtype)}
    return {
        "low": float(np.min(values)),
        "high": float(np.max(values)),
        "dtype": str(values.dtype),
    }
