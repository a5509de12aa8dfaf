"""Scores and losses of held-out rows, from the predictions of the trials."""

from __future__ import annotations

from typing import Any, Callable, Optional, Sequence, Tuple

import numpy as np

from keras_bnguard.advice.decision import RowValues
from keras_bnguard.advice.trials import FoldPredictions
from keras_bnguard.data.batch import Batch
from keras_bnguard.data.scores import row_accuracies
from keras_bnguard.errors import SettingError
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import Policy

RowMetric = Callable[[Any, Any], Any]
"""Function of (y, outputs) as NumPy that returns one number a row, larger is better."""


class RowScores:
    """Scores held-out rows: by the user's metric, by accuracy, or by minus the loss.

    Args:
        snapshot: the model, compiled.
        data: all rows, with labels.
        metric: of the user, None for accuracy or minus the loss.
    """

    def __init__(
        self, snapshot: ModelSnapshot, data: Batch, metric: Optional[RowMetric] = None
    ) -> None:
        self._snapshot, self._data, self._metric = snapshot, data, metric

    def losses(self, rows: np.ndarray, outputs: Any) -> np.ndarray:
        """The compiled loss of each row, shape `(rows,)`.

        Args:
            rows: places in the data.
            outputs: of the model for these rows.
        """
        y = self._data.take(rows).y
        return self._snapshot.backend.step.row_losses(self._snapshot.model, y, outputs)

    def scores(self, rows: np.ndarray, outputs: Any) -> Tuple[str, np.ndarray]:
        """Name of the score, and the score of each row, shape `(rows,)`.

        Args:
            rows: places in the data.
            outputs: of the model for these rows.

        Raises:
            SettingError: the metric does not return one number a row.
        """
        y = self._data.take(rows).y
        if self._metric is not None:
            values = np.asarray(self._metric(y, outputs), float)
            if values.shape != (len(rows),):
                raise SettingError(
                    f"metric gave shape {values.shape} for {len(rows)} rows: expected one number "
                    "a row, so that policies can be compared row by row."
                )
            return "score", values
        accuracies = row_accuracies(self._snapshot.model, y, outputs)
        if accuracies is None:
            return "-loss", -self.losses(rows, outputs)
        return "accuracy", accuracies


class HeldOutScores:
    """All trials, scored: for each policy one number a held-out row, the mean over repeats.

    Args:
        scorer: scores the rows of a fold.
        found: predictions of each fold and policy.

    Attributes:
        metric: name of the score.
        scores: after the trials.
        losses: after the trials.
        untrained: scores before the first step.
        rows: number of held-out rows.
    """

    def __init__(self, scorer: RowScores, found: Sequence[FoldPredictions]) -> None:
        places = np.concatenate([fold.rows for fold in found])
        self.rows = len(np.unique(places))
        self.metric, _ = scorer.scores(found[0].rows, found[0].trained[Policy.FROZEN])

        def by_row(values: Callable[[FoldPredictions, Policy], np.ndarray]) -> RowValues:
            return {
                policy: _mean_by_row(places, np.concatenate([values(f, policy) for f in found]))
                for policy in Policy
            }

        self.scores = by_row(lambda fold, p: scorer.scores(fold.rows, fold.trained[p])[1])
        self.losses = by_row(lambda fold, p: scorer.losses(fold.rows, fold.trained[p]))
        self.untrained = by_row(lambda fold, p: scorer.scores(fold.rows, fold.untrained[p])[1])

    @property
    def tolerance(self) -> float:
        """Mean scores no more than this apart are equal: the accuracy of one row."""
        return 1.0 / self.rows if self.metric == "accuracy" else 0.0


def _mean_by_row(places: np.ndarray, values: np.ndarray) -> np.ndarray:
    _, where = np.unique(places, return_inverse=True)
    return np.bincount(where, values) / np.bincount(where)
