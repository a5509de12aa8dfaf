"""Run a model on batches that were peeked at, and put what was seen into records.

Each function may raise whatever the model raises; `data_facts` turns that into a reason.
"""

from __future__ import annotations

import time
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.values.probe import InputMoments, Probe, pool
from keras_bnguard.data.batches import Batch
from keras_bnguard.data.mode_gap import scores
from keras_bnguard.model.expected_mode import expected_mode
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import BatchDependence, ExpectedMode, Gap, Labels, NormInput, NormKind
from keras_bnguard.statistics.drift import log_variance_ratio, mean_shift

DEAD = 1e-6
"""A channel whose variance is below this share of its layer's median says nothing of scale."""


class Clock:
    """A bound on time that is looked at between batches; a compiled call is never cut."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def over(self) -> bool:
        return time.monotonic() > self._end


def live_paths(snapshot: ModelSnapshot) -> FrozenSet[str]:
    """BN that are meant to train, as far as the model alone says."""
    norms = snapshot.inventory.norms
    return frozenset(
        n.path
        for n in norms
        if n.kind is not NormKind.VARIABLES and expected_mode(n)[0] is ExpectedMode.TRAINING
    )


# ------------------------------------------------------------------ inputs of BN
def norm_inputs(
    snapshot: ModelSnapshot, batches: Sequence[Batch], clock: Clock, replicas: int = 1
) -> Tuple[Tuple[NormInput, ...], int]:
    """What reaches every BN in inference mode, and the number of batches that were run."""
    probe = Probe(snapshot.backend, snapshot.model, snapshot.handles)
    per_batch: List[Dict[str, InputMoments]] = []
    values: Dict[str, float] = {}
    calls: Dict[str, int] = {}
    rows = batches[0].rows
    for batch in batches:
        if batch.rows != rows:
            continue  # The last one of an epoch; another shape would be compiled again.
        if per_batch and clock.over():
            break
        moments = probe(batch.x).moments
        calls = {}
        for item in moments:
            values[item.path] = min(values.get(item.path, np.inf), item.count)
            calls[item.path] = calls.get(item.path, 0) + 1
        per_batch.append(pool(moments))
    paths = list(per_batch[0])
    containers = {norm.path: norm.container for norm in snapshot.inventory.norms}
    handles = {handle.path: handle for handle in snapshot.handles}
    started: Dict[str, None] = {}
    found = []
    for order, path in enumerate(paths):
        container = containers.get(path, "")
        first = container not in started
        started[container] = None
        numbers = _numbers(snapshot, handles[path], [part[path] for part in per_batch])
        found.append(
            NormInput(
                path=path,
                container=container,
                first=first,
                order=order,
                calls=calls.get(path, 1),
                values=values[path] / replicas,
                values_per_row=values[path] / rows,
                **numbers,
            )
        )
    return tuple(found), len(per_batch)


def _numbers(snapshot: ModelSnapshot, handle: Any, parts: List[InputMoments]) -> Dict[str, Any]:
    whole = pool(parts)[handle.path]
    finite = bool(np.all(np.isfinite(whole.mean)) and np.all(np.isfinite(whole.variance)))
    numbers: Dict[str, Any] = {"mean": whole.mean, "variance": whole.variance, "finite": finite}
    state = snapshot.backend.values.state(handle, affine=False)
    if not finite or state.mean is None or state.variance is None:
        return numbers
    counts = np.array([part.count for part in parts])
    inside = np.average([part.variance for part in parts], axis=0, weights=counts)
    alive = whole.variance > DEAD * max(float(np.median(whole.variance)), 1e-30)
    if np.any(alive):
        numbers["within"] = float(np.mean(inside[alive] / whole.variance[alive]))
    mean, variance = (np.ravel(v).astype(np.float64) for v in (state.mean, state.variance))
    numbers.update(moving_mean=mean, moving_variance=variance)
    epsilon = np.asarray(handle.settings["epsilon"] or 0.0)
    numbers["mean_shift"] = float(np.mean(mean_shift(whole.mean, mean, variance, epsilon)))
    ratios = log_variance_ratio(whole.variance, variance, epsilon)
    numbers["log_variance_ratio"] = float(np.mean(ratios))
    known = variance > DEAD * max(float(np.median(variance)), 1e-30)
    if np.any(known):
        numbers["scale"] = float(np.median(whole.variance[known] / variance[known]))
    return numbers


# --------------------------------------------------------------------- labels
def labels_of(batches: Sequence[Batch]) -> Optional[Labels]:
    """The class labels of the batches; None where there is not one class label a row."""
    columns = [_classes(batch.y) for batch in batches]
    if not columns or any(column is None for column in columns):
        return None
    kept = [np.asarray(column[0]) for column in columns if column is not None]
    classes = max(column[1] for column in columns if column is not None)
    n_classes, codes = np.unique(np.concatenate(kept), return_inverse=True)
    ends = np.cumsum([len(column) for column in kept])
    parts = np.split(codes, ends[:-1])
    inside = sum(len(part) * _gini(part) for part in parts) / len(codes)
    whole = _gini(codes)
    return Labels(
        n_classes=len(n_classes),
        batches=len(parts),
        single=sum(len(np.unique(part)) == 1 for part in parts),
        within=float(inside / whole) if whole > 0 else 1.0,
        classes=classes,
    )


def _gini(codes: np.ndarray) -> float:
    """Sum of the variances of the one-hot labels: 1 - sum of squared shares."""
    shares = np.bincount(codes) / len(codes)
    return float(1.0 - np.sum(shares**2))


def _classes(y: Any) -> Optional[Tuple[np.ndarray, int]]:
    """(label of each row, number of classes where the labels say it) of one target."""
    if isinstance(y, (list, dict)):
        parts = list(y.values()) if isinstance(y, dict) else y
        return next((found for part in parts if (found := _classes(part)) is not None), None)
    if not isinstance(y, np.ndarray) or y.ndim == 0 or y.dtype.kind not in "biuf":
        return None
    if y.ndim == 2 and y.shape[1] > 1:
        one_hot = np.all((y == 0) | (y == 1)) and np.all(np.sum(y, 1) == 1)
        return (np.argmax(y, 1), y.shape[1]) if one_hot else None
    if y.ndim > 2 or y.size != len(y):
        return None
    flat = y.reshape(-1)
    if y.dtype.kind == "f" and not np.all((flat == 0) | (flat == 1)):
        return None
    return flat.astype(np.int64), 0


# ------------------------------------------------------------------------ gap
def gap_of(
    snapshot: ModelSnapshot,
    batches: Sequence[Batch],
    live: FrozenSet[str],
    clock: Clock,
    limit: int = 8,
) -> Gap:
    """Loss of the batches with live BN by the batch and by their moving statistics."""
    by_batch = Probe(snapshot.backend, snapshot.model, snapshot.handles, live)
    by_moving = Probe(snapshot.backend, snapshot.model, snapshot.handles)
    rows: List[int] = []
    losses: List[Tuple[float, float]] = []
    right: List[Tuple[float, float]] = []
    values = np.inf
    for batch in batches[:limit]:
        if batch.rows != batches[0].rows or (len(rows) > 1 and clock.over()):
            continue
        trained = by_batch(batch.x)
        values = min([values, *(m.count for m in trained.moments if m.path in live)])
        both: List[Mapping[str, float]] = [
            scores(snapshot, batch, outputs)
            for outputs in (trained.outputs, by_moving(batch.x).outputs)
        ]
        rows.append(batch.rows)
        losses.append((both[0]["loss"], both[1]["loss"]))
        if "accuracy" in both[0]:
            right.append((both[0]["accuracy"], both[1]["accuracy"]))
    training, inference = np.average(losses, axis=0, weights=rows)
    gaps = [b - a for a, b in losses]
    accuracy = np.average(right, axis=0, weights=rows) if len(right) == len(rows) else None
    return Gap(
        training=float(training),
        inference=float(inference),
        standard_error=float(np.std(gaps, ddof=1) / np.sqrt(len(gaps)))
        if len(gaps) > 1
        else float("nan"),
        batches=len(rows),
        rows=sum(rows),
        values=0.0 if np.isinf(values) else float(values),
        accuracy=None if accuracy is None else (float(accuracy[0]), float(accuracy[1])),
    )


# ---------------------------------------------------------------------- alone
def graph_proves_inference(snapshot: ModelSnapshot) -> bool:
    """Whether the graph alone shows that every BN runs in inference mode in `predict`."""
    inventory = snapshot.inventory
    return inventory.functional and all(
        norm.kind is NormKind.KERAS
        and norm.builtin
        and bool(norm.calls)
        and all(call.training is not True for call in norm.calls)
        for norm in inventory.norms
    )


def batch_dependence_of(snapshot: ModelSnapshot, batch: Batch, rows: int = 8) -> BatchDependence:
    """The first row of a batch predicted alone, against the same row among others."""
    if graph_proves_inference(snapshot):
        return BatchDependence(proven=True)
    several, one = _rows(batch.x, min(rows, batch.rows)), _rows(batch.x, 1)
    plain = Probe(snapshot.backend, snapshot.model, snapshot.handles, forced=False)
    outputs = [_flat(plain(x).outputs) for x in (several, several, one)]
    layers = tuple(path for path, seen in plain.arrived.items() if seen - {False, None})
    scale = max(float(np.std(outputs[0])), 1e-12)
    random = _apart(outputs[0], outputs[1]) > 0
    difference = _apart(outputs[0], outputs[2]) / scale
    held = 0.0
    if difference > 0 and not random:
        forced = Probe(snapshot.backend, snapshot.model, snapshot.handles)
        held = _apart(*(_flat(forced(x).outputs) for x in (several, one))) / scale
    return BatchDependence(
        difference=difference, difference_forced=held, scale=scale, random=random, layers=layers
    )


def _apart(several: np.ndarray, others: np.ndarray) -> float:
    """Largest difference between the first row of two outputs."""
    return float(np.max(np.abs(several[:1] - others[:1]), initial=0.0))


def _rows(structure: Any, rows: int) -> Any:
    if isinstance(structure, dict):
        return {key: _rows(value, rows) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        return [_rows(value, rows) for value in structure]
    return structure[:rows]


def _flat(outputs: Any) -> np.ndarray:
    """All outputs side by side, shape (rows, values)."""
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, (list, tuple)):
        return np.concatenate([_flat(part) for part in outputs], axis=1)
    return np.asarray(outputs, np.float64).reshape(len(outputs), -1)
