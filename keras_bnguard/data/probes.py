"""Run a model on sampled batches, and record what reaches each BN and what comes out.

Each function raises whatever the model raises; `measure` turns that into a reason.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Sequence, Tuple

import numpy as np

from keras_bnguard.backends.values.probe import Probe, ProbeKind
from keras_bnguard.data import tree
from keras_bnguard.data.batch import Batch
from keras_bnguard.data.kept_probes import probe_of
from keras_bnguard.data.scores import scores
from keras_bnguard.model.expected_mode import expected_mode
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import BatchDependence, ExpectedMode, Gap, NormInput, NormKind
from keras_bnguard.statistics.drift import log_variance_ratio, mean_shift
from keras_bnguard.statistics.moments import (
    InputMoments,
    pool,
    variance_ratio,
    within_batch_variance_ratio,
)
from keras_bnguard.statistics.uncertainty import standard_error


class Deadline:
    """A bound on time, asked between batches; a compiled call is never cut.

    Args:
        seconds: from now on.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def passed(self) -> bool:
        return time.monotonic() > self._end


def trainable_paths(snapshot: ModelSnapshot) -> FrozenSet[str]:
    """BN that are meant to train, as far as the model alone shows."""
    return frozenset(
        norm.path
        for norm in snapshot.inventory.norms
        if norm.kind is not NormKind.VARIABLES and expected_mode(norm)[0] is ExpectedMode.TRAINING
    )


# ------------------------------------------------------------------ inputs of BN
def measure_norm_inputs(
    snapshot: ModelSnapshot, batches: Sequence[Batch], deadline: Deadline, replicas: int = 1
) -> Tuple[Tuple[NormInput, ...], int]:
    """What reaches every BN in inference mode.

    Args:
        snapshot: the model.
        batches: at least one. Batches of another size than the first are left out: they would
            be compiled again.
        deadline: when to begin no more batch; one is always run.
        replicas: how many share a batch.

    Returns:
        The inputs in the order in which the BN run, and the number of batches that were run.
    """
    probe = probe_of(snapshot, snapshot.handles)
    per_batch: List[Dict[str, InputMoments]] = []
    values: Dict[str, float] = {}
    calls: Dict[str, int] = {}
    rows = batches[0].rows
    for batch in batches:
        if batch.rows != rows:
            continue
        if per_batch and deadline.passed:
            break
        moments = probe(batch.x).moments
        calls = {}
        for item in moments:
            values[item.path] = min(values.get(item.path, np.inf), item.count)
            calls[item.path] = calls.get(item.path, 0) + 1
        per_batch.append(pool(moments))
    containers = _sub_models(snapshot)
    handles = {handle.path: handle for handle in snapshot.handles}
    started: Dict[str, None] = {}
    found = []
    for order, path in enumerate(per_batch[0]):
        container = containers.get(path, "")
        first = container not in started
        started[container] = None
        found.append(
            NormInput(
                path=path,
                container=container,
                first=first,
                order=order,
                calls=calls.get(path, 1),
                values=values[path] / replicas,
                values_per_row=values[path] / rows,
                **_compared(snapshot, handles[path], [part[path] for part in per_batch]),
            )
        )
    return tuple(found), len(per_batch)


def _sub_models(snapshot: ModelSnapshot) -> Dict[str, str]:
    """Path of each BN -> path of the sub-model whose input it belongs to, "" for the model itself.

    That is the deepest model around it that has at least half of all BN. A block of a network,
    as a composite layer or a small model, gets what the network makes and no data of the user.
    """
    paths = [norm.path for norm in snapshot.inventory.norms]
    models = [path for path, layer in snapshot.layers if snapshot.backend.graph.is_model(layer)]
    large = [
        model
        for model in models
        if 2 * sum(path.startswith(f"{model}/") for path in paths) >= len(paths)
    ]
    return {
        path: max((m for m in large if path.startswith(f"{m}/")), key=len, default="")
        for path in paths
    }


def _compared(snapshot: ModelSnapshot, handle: Any, batches: List[InputMoments]) -> Dict[str, Any]:
    """Moments of the data against the moving statistics of one BN."""
    data = pool(batches)[handle.path]
    numbers: Dict[str, Any] = {
        "mean": data.mean,
        "variance": data.variance,
        "finite": data.finite,
    }
    state = snapshot.backend.values.state(handle, affine=False)
    if not data.finite or state.mean is None or state.variance is None:
        return numbers
    mean, variance = (np.ravel(v).astype(np.float64) for v in (state.mean, state.variance))
    epsilon = np.asarray(handle.settings["epsilon"] or 0.0)
    ratios = log_variance_ratio(data.variance, variance, epsilon)
    return {
        **numbers,
        "within_batch_variance_ratio": within_batch_variance_ratio(batches, data),
        "moving_mean": mean,
        "moving_variance": variance,
        "mean_shift": float(np.mean(mean_shift(data.mean, mean, variance, epsilon))),
        "log_variance_ratio": float(np.mean(ratios)),
        "variance_ratio": variance_ratio(data.variance, variance),
    }


# ------------------------------------------------------------------------ gap
def measure_gap(
    snapshot: ModelSnapshot,
    batches: Sequence[Batch],
    trainable: FrozenSet[str],
    deadline: Deadline,
    rewind: Callable[[], None],
    limit: int = 8,
) -> Gap:
    """Loss of the batches with trainable BN in training mode and in inference mode.

    Args:
        snapshot: the model, compiled.
        batches: with labels; those of another size than the first are left out.
        trainable: paths of the BN whose mode changes.
        deadline: when to begin no more batch; two are always run.
        rewind: puts the state of the model back, so that both modes begin with the same.
        limit: batches at most.
    """
    in_training = probe_of(snapshot, snapshot.handles, ProbeKind(by_batch=trainable))
    in_inference = probe_of(snapshot, snapshot.handles)
    rows: List[int] = []
    losses: List[Tuple[float, float]] = []
    accuracies: List[Tuple[float, float]] = []
    values = np.inf
    for batch in batches[:limit]:
        if batch.rows != batches[0].rows or (len(rows) > 1 and deadline.passed):
            continue
        rewind()
        trained = in_training(batch.x)
        rewind()
        values = min([values, *(m.count for m in trained.moments if m.path in trainable)])
        both: List[Mapping[str, float]] = [
            scores(snapshot, batch, outputs)
            for outputs in (trained.outputs, in_inference(batch.x).outputs)
        ]
        rows.append(batch.rows)
        losses.append((both[0]["loss"], both[1]["loss"]))
        if "accuracy" in both[0]:
            accuracies.append((both[0]["accuracy"], both[1]["accuracy"]))
    training, inference = np.average(losses, axis=0, weights=rows)
    accuracy = None
    if len(accuracies) == len(rows):
        first, second = np.average(accuracies, axis=0, weights=rows)
        accuracy = (float(first), float(second))
    return Gap(
        training=float(training),
        inference=float(inference),
        standard_error=standard_error([after - before for before, after in losses]),
        batches=len(rows),
        rows=sum(rows),
        values=0.0 if np.isinf(values) else float(values),
        accuracy=accuracy,
    )


# ----------------------------------------------------------- batch dependence
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


def measure_batch_dependence(
    snapshot: ModelSnapshot, batch: Batch, rewind: Callable[[], None]
) -> BatchDependence:
    """Predict the first row of a batch among the others and among copies of itself.

    Mean and variance of copies are those of the row alone, and the batch has the shape that
    the model is compiled for already.

    Args:
        snapshot: the model.
        batch: what to predict.
        rewind: puts the state of the model back before each prediction.
    """
    if graph_proves_inference(snapshot):
        return BatchDependence(proven=True)
    several, one = batch.x, tree.take(batch.x, np.zeros(batch.rows, int))
    plain = probe_of(snapshot, snapshot.handles, ProbeKind(forced=False))

    def predict(probe: Probe, x: Any) -> np.ndarray:
        rewind()
        return _side_by_side(probe(x).outputs)

    outputs = [predict(plain, x) for x in (several, several, one)]
    layers = tuple(path for path, seen in plain.arrived.items() if seen - {False, None})
    scale = max(float(np.std(outputs[0])), 1e-12)
    random = _first_row_difference(outputs[0], outputs[1]) > 0
    difference = _first_row_difference(outputs[0], outputs[2]) / scale
    forced_difference = 0.0
    if difference > 0 and not random:
        forced = probe_of(snapshot, snapshot.handles)
        predicted = (predict(forced, x) for x in (several, one))
        forced_difference = _first_row_difference(*predicted) / scale
    return BatchDependence(
        difference=difference,
        difference_forced=forced_difference,
        scale=scale,
        random=random,
        layers=layers,
    )


def _first_row_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference between the first rows of two outputs."""
    return float(np.max(np.abs(one[:1] - other[:1]), initial=0.0))


def _side_by_side(outputs: Any) -> np.ndarray:
    """All outputs of the model, shape `(rows, values)`."""
    parts = [np.asarray(leaf, np.float64).reshape(len(leaf), -1) for leaf in tree.leaves(outputs)]
    return np.concatenate(parts, axis=1)
