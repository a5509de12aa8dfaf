"""The same batches with BN in training mode and in inference mode: the two must agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from keras_bnguard.backends.values.probe import Probe
from keras_bnguard.data.batches import Batch, Batches, check_shapes
from keras_bnguard.errors import DataError
from keras_bnguard.inference.selection import forced_paths
from keras_bnguard.model.expected_mode import will_run
from keras_bnguard.model.snapshot import ModelSnapshot, take_snapshot
from keras_bnguard.records import NormKind, RunMode

Metric = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class ModeGap:
    """What `mode_gap` measured.

    training, inference: name -> mean over the batches, weighted by their rows. "loss" is the
    compiled loss without regularisation; "accuracy" is there for classification.
    spread: name -> standard error over batches of (inference - training).
    """

    training: Mapping[str, float]
    inference: Mapping[str, float]
    standard_error: Mapping[str, float]
    rows: int
    batches: int
    norms: int

    def gap(self, name: str = "loss") -> float:
        """Inference minus training mode."""
        return self.inference[name] - self.training[name]

    def __str__(self) -> str:
        lines = [
            f"{self.rows} rows in {self.batches} batches, {self.norms} BN",
            f"{'':12s}{'BN by batch':>14s}{'BN inference':>14s}{'difference':>14s}{'+-':>10s}",
        ]
        for name in self.training:
            lines.append(
                f"{name:12s}{self.training[name]:14.4f}{self.inference[name]:14.4f}"
                f"{self.gap(name):14.4f}{self.standard_error[name]:10.4f}"
            )
        return "\n".join(lines)


def mode_gap(
    model: Any,
    data: Any,
    *,
    metrics: Optional[Mapping[str, Metric]] = None,
    batch_size: int = 32,
    batches: int = 32,
) -> ModeGap:
    """Loss and metrics of the same batches with BN by the batch and by its moving statistics.

    Only BN changes mode: Dropout and augmentation are off in both, so they open no gap. BN
    that `fit` runs in inference mode here, frozen or held ones, do so in both. Nothing of the
    model is changed: no weight, metric, seed or moving statistic.

    Args:
        model: a built and compiled Keras model.
        data: (x, y) arrays, tf.data, PyDataset, DataLoader or a list of batches, with labels.
        metrics: name -> function of (y, outputs) as NumPy; besides loss and accuracy.
        batch_size: rows per batch where data is arrays; use the one of training.
        batches: how many batches at most. Defaults to 32.

    Raises:
        DataError: no labels, a model without a loss, or data that cannot be read.
    """
    snapshot = take_snapshot(model, forced_inference=forced_paths(model))
    snapshot.backend.values.sync(model)
    stack = snapshot.inventory.stack
    live = frozenset(
        n.path
        for n in snapshot.inventory.norms
        if n.built and n.kind is not NormKind.VARIABLES and will_run(n, stack) is RunMode.TRAINING
    )
    source = Batches(data, batch_size=batch_size, limit=batches)
    by_batch = Probe(snapshot.backend, model, snapshot.handles, live)
    by_moving = Probe(snapshot.backend, model, snapshot.handles)
    rows: List[int] = []
    found: Dict[str, List[Tuple[float, float]]] = {}
    for batch in source:
        check_shapes(model, batch)
        if batch.y is None or getattr(model, "loss", None) is None:
            raise DataError(
                "mode_gap needs labels and a compiled loss: pass (x, y) and call model.compile "
                "first."
            )
        rows.append(batch.rows)
        both = [
            scores(snapshot, batch, probe(batch.x).outputs, metrics)
            for probe in (by_batch, by_moving)
        ]
        for name in both[0]:
            found.setdefault(name, []).append((both[0][name], both[1][name]))
    weights = np.array(rows, float) / sum(rows)
    pairs = {name: np.array(values) for name, values in found.items()}
    return ModeGap(
        training={name: float(weights @ value[:, 0]) for name, value in pairs.items()},
        inference={name: float(weights @ value[:, 1]) for name, value in pairs.items()},
        standard_error={
            name: _standard_error(value[:, 1] - value[:, 0]) for name, value in pairs.items()
        },
        rows=sum(rows),
        batches=len(rows),
        norms=len(snapshot.handles),
    )


def scores(
    snapshot: ModelSnapshot,
    batch: Batch,
    outputs: Any,
    metrics: Optional[Mapping[str, Metric]] = None,
) -> Dict[str, float]:
    """Loss, accuracy where it makes sense, and the user's metrics of one batch."""
    result = {"loss": snapshot.backend.step.loss_of(snapshot.model, batch.y, outputs)}
    accuracy = _accuracy(snapshot.model, batch.y, outputs)
    if accuracy is not None:
        result["accuracy"] = accuracy
    for name, metric in (metrics or {}).items():
        result[name] = float(metric(batch.y, outputs))
    return result


def _accuracy(model: Any, y: Any, outputs: Any) -> Optional[float]:
    right = row_hits(model, y, outputs)
    return None if right is None else float(np.mean(right))


def row_hits(model: Any, y: Any, outputs: Any) -> Optional[np.ndarray]:
    """Share of right classes of each row, shape `(rows,)`; None where the loss is no
    classification of one output."""
    name = str(getattr(model.loss, "__name__", None) or type(model.loss).__name__)
    name = model.loss if isinstance(model.loss, str) else name
    if not isinstance(outputs, np.ndarray) or not isinstance(y, np.ndarray):
        return None
    kind = name.lower().replace("_", "")
    if "categoricalcrossentropy" in kind:
        wanted = y if "sparse" in kind else np.argmax(y, -1)
        right = np.argmax(outputs, -1).reshape(-1) == np.asarray(wanted).reshape(-1)
    elif "binarycrossentropy" in kind:
        edge = 0.0 if getattr(model.loss, "from_logits", False) else 0.5
        right = (outputs.reshape(-1) > edge) == (np.asarray(y).reshape(-1) > 0.5)
    else:
        return None
    return np.asarray(np.mean(right.reshape(len(outputs), -1), axis=1))


def _standard_error(differences: np.ndarray) -> float:
    if len(differences) < 2:
        return float("nan")
    return float(np.std(differences, ddof=1) / np.sqrt(len(differences)))
