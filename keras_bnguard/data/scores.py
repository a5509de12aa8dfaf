"""Loss, accuracy and the user's metrics of a batch, from outputs that were computed already."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional

import numpy as np

from keras_bnguard.data.batch import Batch
from keras_bnguard.model.snapshot import ModelSnapshot

Metric = Callable[[np.ndarray, np.ndarray], float]


def scores(
    snapshot: ModelSnapshot,
    batch: Batch,
    outputs: Any,
    metrics: Optional[Mapping[str, Metric]] = None,
) -> Dict[str, float]:
    """Loss, accuracy where it makes sense, and the user's metrics of one batch.

    Args:
        snapshot: the model, compiled.
        batch: with labels.
        outputs: of the model for the batch, as NumPy.
        metrics: name -> function of (y, outputs).
    """
    result = {"loss": snapshot.backend.step.loss_of(snapshot.model, batch.y, outputs)}
    correct = row_accuracies(snapshot.model, batch.y, outputs)
    if correct is not None:
        result["accuracy"] = float(np.mean(correct))
    for name, metric in (metrics or {}).items():
        result[name] = float(metric(batch.y, outputs))
    return result


def row_accuracies(model: Any, y: Any, outputs: Any) -> Optional[np.ndarray]:
    """Share of right classes of each row.

    Args:
        model: compiled; its loss shows whether it classifies.
        y: labels of the rows, NumPy.
        outputs: of the model for the rows, NumPy.

    Returns:
        Shape `(rows,)`, None where the loss is no classification of one output.
    """
    name = str(getattr(model.loss, "__name__", None) or type(model.loss).__name__)
    name = model.loss if isinstance(model.loss, str) else name
    if not isinstance(outputs, np.ndarray) or not isinstance(y, np.ndarray):
        return None
    loss = name.lower().replace("_", "")
    if "categoricalcrossentropy" in loss:
        wanted = y if "sparse" in loss else np.argmax(y, -1)
        right = np.argmax(outputs, -1).reshape(-1) == np.asarray(wanted).reshape(-1)
    elif "binarycrossentropy" in loss:
        threshold = 0.0 if getattr(model.loss, "from_logits", False) else 0.5
        right = (outputs.reshape(-1) > threshold) == (np.asarray(y).reshape(-1) > 0.5)
    else:
        return None
    return np.asarray(np.mean(right.reshape(len(outputs), -1), axis=1))
