"""Look at batches of the user's data once, and measure on them what the data rules need."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any, Dict, FrozenSet, List, Optional, Tuple

import numpy as np

from keras_bnguard.backends.values.restore import model_state_kept
from keras_bnguard.data.batches import Batch, Batches, check_shapes, is_arrays, is_indexed
from keras_bnguard.data.probes import (
    Clock,
    batch_dependence_of,
    gap_of,
    labels_of,
    live_paths,
    norm_inputs,
)
from keras_bnguard.data.random_states import random_states_kept
from keras_bnguard.errors import DataError
from keras_bnguard.model.expected_mode import expected_mode
from keras_bnguard.model.snapshot import ModelSnapshot, find_shared
from keras_bnguard.records import DataFacts, ExpectedMode
from keras_bnguard.rules.thresholds import does_not_fit

BATCHES = 16
"""Batches that are looked at; the rule on shuffling needs 8."""
SECONDS = 30.0
"""No new batch is begun after this time, for reading and for running each."""
MAX_BYTES = 512 * 2**20
PARTS = frozenset({"norms", "labels", "alone", "gap"})


@dataclass
class DataSample:
    """Batches that were read once, as NumPy, and what is known of the data they came from.

    why: why there are none. ordered: they come as training gets them.
    """

    kind: str
    batches: List[Batch] = field(default_factory=list)
    ordered: bool = False
    last_rows: Optional[int] = None
    samples: Optional[int] = None
    why: str = ""
    notes: Tuple[str, ...] = ()


def sample(
    data: Any,
    *,
    batch_size: Optional[int] = None,
    in_order: bool = False,
    limit: int = BATCHES,
    seconds: float = SECONDS,
    max_bytes: int = MAX_BYTES,
) -> DataSample:
    """Read some batches of anything `fit` takes; never raises, and moves nothing.

    Args:
        data: see `Batches`. A one-shot iterator is not touched; `Peek.why` says so.
        batch_size: rows per batch of arrays, 32 by default.
        in_order: arrays are trained on in the order they are in (`fit(shuffle=False)`).
        limit: batches at most. seconds, max_bytes: when to stop reading.
    """
    found = DataSample(type(data).__name__)
    started, size = time.monotonic(), 0
    arrays = is_arrays(data)
    found.ordered = not arrays or in_order
    try:
        source = Batches(
            data,
            batch_size=batch_size or 32,
            limit=limit + 1,
            standard_error="batches" if found.ordered else "rows",
        )
        for batch in source:
            if len(found.batches) == limit:
                found.last_rows = batch.rows if arrays or is_indexed(data) else None
                break
            found.batches.append(batch)
            size += _bytes(batch.x)
            spent = time.monotonic() - started
            if size > max_bytes or spent > seconds:
                found.notes += (
                    f"looked at {len(found.batches)} batches only: {size / 2**20:.0f} MiB in "
                    f"{spent:.1f} s",
                )
                break
        else:
            found.last_rows = found.batches[-1].rows
            if not arrays:
                found.samples = sum(b.rows for b in found.batches)
    except DataError as error:
        found.why = str(error)
    except Exception as error:
        found.why = f"reading the data failed: {_said(error)}"
    if found.why:
        found.batches = []
    if arrays and found.batches and source.samples:
        found.samples = source.samples
        found.last_rows = source.samples % (batch_size or 32) or (batch_size or 32)
    return found


def measure(
    snapshot: ModelSnapshot,
    seen: DataSample,
    *,
    parts: FrozenSet[str] = PARTS,
    moment: str = "audit",
    seconds: float = SECONDS,
    replicas: Optional[int] = None,
) -> DataFacts:
    """Measure on peeked batches what is asked for; never raises and changes nothing.

    Args:
        survey: the model as it is now. seen: the batches. parts: which of `PARTS`.
        moment: for the record. seconds: no batch is begun after so long, per part.

    Returns:
        `DataFacts`; a part that could not be measured has its reason in `missing`.
    """
    replicas = replicas or replicas_of(snapshot.model)
    facts = DataFacts(kind=seen.kind, moment=moment, replicas=replicas, notes=seen.notes)
    if seen.why or not seen.batches:
        return replace(facts, missing={"batches": seen.why or "there is no batch"})
    batches = seen.batches
    facts = replace(
        facts,
        rows=sum(b.rows for b in batches),
        batches=len(batches),
        full_rows=batches[0].rows,
        last_rows=seen.last_rows,
        samples=seen.samples,
        ordered=seen.ordered,
        **_range(batches[0].x),
    )
    why_not = _cannot_run(snapshot, batches[0])
    missing: Dict[str, str] = dict.fromkeys(parts & {"norms", "alone", "gap"}, why_not)
    missing = {part: why for part, why in missing.items() if why}
    if "labels" in parts:
        try:
            facts = replace(facts, labels=labels_of(batches))
        except Exception as error:
            missing["labels"] = _said(error)
    if not why_not:
        facts = _run(snapshot, batches, facts, parts, missing, seconds)
        _look_who_trains(snapshot, facts)
    return replace(facts, missing=missing)


def _look_who_trains(snapshot: ModelSnapshot, facts: DataFacts) -> None:
    """Where frozen BN do not fit, another model may train them, as in a GAN: look for it."""
    frozen = {
        norm.path
        for norm in snapshot.inventory.norms
        if expected_mode(norm)[0] is ExpectedMode.INFERENCE
    }
    off = any(does_not_fit(item) for item in facts.norms if item.path in frozen)
    if off and snapshot.inventory.shared is None:
        snapshot.replace_inventory(shared=find_shared(snapshot))


def _run(
    snapshot: ModelSnapshot,
    batches: List[Batch],
    facts: DataFacts,
    parts: FrozenSet[str],
    missing: Dict[str, str],
    seconds: float,
) -> DataFacts:
    backend, model = snapshot.backend, snapshot.model
    with random_states_kept(None), model_state_kept(backend, model):
        if "norms" in parts:
            try:
                norms, ran = norm_inputs(snapshot, batches, Clock(seconds), facts.replicas)
                facts = replace(facts, norms=norms)
                full = sum(b.rows == batches[0].rows for b in batches)
                if ran < full:
                    note = f"the model ran on {ran} of {full} batches in {seconds:g} s"
                    facts = replace(facts, notes=(*facts.notes, note))
            except Exception as error:
                missing["norms"] = f"the model did not run on the data: {_said(error)}"
        if "alone" in parts and "norms" not in missing:
            try:
                facts = replace(facts, alone=batch_dependence_of(snapshot, batches[0]))
            except Exception as error:
                missing["alone"] = f"the model did not run on one row: {_said(error)}"
        if "gap" in parts and "norms" not in missing:
            why = _no_gap(snapshot, batches)
            if why:
                missing["gap"] = why
            else:
                try:
                    gap = gap_of(snapshot, batches, live_paths(snapshot), Clock(seconds))
                    facts = replace(facts, gap=gap)
                except Exception as error:
                    missing["gap"] = f"the loss could not be computed: {_said(error)}"
    return facts


def _no_gap(snapshot: ModelSnapshot, batches: List[Batch]) -> str:
    if batches[0].y is None:
        return "the data has no labels"
    if not snapshot.inventory.compiled or getattr(snapshot.model, "loss", None) is None:
        return "the model has no compiled loss"
    if not live_paths(snapshot):
        return "no BN is live"
    return ""


def _cannot_run(snapshot: ModelSnapshot, batch: Batch) -> str:
    """Why the model cannot be run, as far as that is known before it is tried."""
    inventory = snapshot.inventory
    if not inventory.norms:
        return "the model has no BN"
    if not is_built(snapshot):
        return "the model is not built yet"
    try:
        snapshot.backend.values.sync(snapshot.model)
        check_shapes(snapshot.model, batch)
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
    while isinstance(x, (dict, list, tuple)):
        x = next(iter(x.values())) if isinstance(x, dict) else x[0]
    values = np.asarray(x)
    if values.dtype.kind not in "biuf" or not values.size:
        return {"dtype": str(values.dtype)}
    return {
        "low": float(np.min(values)),
        "high": float(np.max(values)),
        "dtype": str(values.dtype),
    }


def _bytes(x: Any) -> int:
    if isinstance(x, dict):
        return sum(_bytes(value) for value in x.values())
    if isinstance(x, (list, tuple)):
        return sum(_bytes(value) for value in x)
    return int(getattr(x, "nbytes", 0))


def _said(error: BaseException) -> str:
    """The exception in one line."""
    text = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {text[:200]}"
