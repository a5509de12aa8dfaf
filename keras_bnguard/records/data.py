"""What was measured on batches of the user's data: frozen, without any framework object.

Unit of a mean shift: one standard deviation of the moving statistics, sqrt(variance + epsilon).
Log variance ratios are natural logarithms: 0.69 is a factor of two either way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Mapping, Optional, Tuple

import numpy as np

from keras_bnguard.records.moments import TRAIN_START, Moment


class DataPart(Enum):
    """What can be measured on data, each with its own reason where it is missing."""

    BATCHES = "batches"
    NORMS = "inputs of BN"
    LABELS = "labels"
    BATCH_DEPENDENCE = "batch dependence of a prediction"
    GAP = "gap between training mode and inference mode"


@dataclass(frozen=True)
class NormInput:
    """What reached one BN while the model ran in inference mode on the batches.

    Attributes:
        path: path of the BN.
        container: path of the deepest sub-model around it that has at least half of all BN, ""
            for the model itself.
        first: whether it is the first BN of its sub-model that runs.
        order: place among all BN that ran.
        calls: how often it runs per batch.
        values: values per channel in one batch, of one replica where there are several.
        values_per_row: values per channel that one row brings.
        mean_shift: mean over channels of |mean - moving mean| in standard deviations.
        log_variance_ratio: mean over channels of
            |log((variance + epsilon) / (moving variance + epsilon))|.
        variance_ratio: median over channels of variance / moving variance, without epsilon, over
            channels that are not dead.
        within_batch_variance_ratio: variance inside a batch as a share of the pooled variance,
            mean over channels and over batches weighted by their values; 1.0 where all batches
            look alike.
        finite: whether no NaN and no infinity reached it.
        mean: pooled over all values of all batches, shape `(channels,)`, float64.
        variance: pooled and biased, the same shape.
        moving_mean: that of the BN at that time, the same shape; None where it cannot be compared.
        moving_variance: the same.
    """

    path: str
    container: str = ""
    first: bool = False
    order: int = 0
    calls: int = 1
    values: float = 0.0
    values_per_row: float = 0.0
    mean_shift: float = 0.0
    log_variance_ratio: float = 0.0
    variance_ratio: float = 1.0
    within_batch_variance_ratio: float = 1.0
    finite: bool = True
    mean: Optional[np.ndarray] = field(default=None, compare=False, repr=False)
    variance: Optional[np.ndarray] = field(default=None, compare=False, repr=False)
    moving_mean: Optional[np.ndarray] = field(default=None, compare=False, repr=False)
    moving_variance: Optional[np.ndarray] = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Labels:
    """The labels of the batches, where there is one class label a row.

    Attributes:
        n_classes: number of different labels in the batches.
        batches: number of batches.
        single_class_batches: batches with one label only.
        within_batch_variance_ratio: variance of the one-hot labels inside a batch as a share of
            the pooled one: 1 - 1/rows where rows are drawn at random, 0 where each batch has one
            label.
        one_hot_width: columns of one-hot labels; 0 where labels are numbers.
    """

    n_classes: int
    batches: int
    single_class_batches: int
    within_batch_variance_ratio: float
    one_hot_width: int = 0


@dataclass(frozen=True)
class Gap:
    """Loss of the same batches with trainable BN in training mode and in inference mode.

    Attributes:
        training: loss in training mode, mean over batches weighted by rows.
        inference: loss in inference mode, the same.
        standard_error: standard error over batches of the difference; NaN for one batch.
        batches: batches that were run.
        rows: rows that were run.
        values: fewest values per channel of a trainable BN in a batch.
        accuracy: (training mode, inference mode), None where the loss is no classification.
    """

    training: float
    inference: float
    standard_error: float
    batches: int
    rows: int
    values: float = 0.0
    accuracy: Optional[Tuple[float, float]] = None


@dataclass(frozen=True)
class BatchDependence:
    """One row predicted alone against the same row predicted in a batch.

    Attributes:
        difference: largest |alone - in batch| over all outputs, as a share of `scale`.
        difference_forced: the same with every BN forced into inference mode.
        scale: standard deviation of the outputs over the batch.
        random: whether the same batch gave other outputs the second time.
        layers: paths of the BN that normalized with batch statistics.
        proven: whether the graph shows that every BN runs in inference mode, so nothing was run.
    """

    difference: float = 0.0
    difference_forced: float = 0.0
    scale: float = 1.0
    random: bool = False
    layers: Tuple[str, ...] = ()
    proven: bool = False


@dataclass(frozen=True)
class DataFacts:
    """Everything that was measured on a sample of the data.

    Attributes:
        kind: class of the data.
        moment: when it was measured.
        rows: rows of the sample.
        batches: batches of the sample.
        full_rows: rows of a full batch.
        last_rows: rows of the last batch of the data, None where its end was not reached.
        samples: rows of the whole data, None where unknown.
        replicas: how many share a batch.
        ordered: whether the batches come as training gets them.
        low: smallest value of the first input.
        high: largest value of it.
        dtype: its type.
        norms: what reached each BN, in the order in which they run.
        labels: the class labels, None where there is not one a row.
        gap: None where it was not measured.
        batch_dependence: None where it was not measured.
        missing: part -> why it is not there.
        notes: what was cut short, and why.
    """

    kind: str = ""
    moment: Moment = TRAIN_START
    rows: int = 0
    batches: int = 0
    full_rows: int = 0
    last_rows: Optional[int] = None
    samples: Optional[int] = None
    replicas: int = 1
    ordered: bool = False
    low: float = 0.0
    high: float = 0.0
    dtype: str = ""
    norms: Tuple[NormInput, ...] = ()
    labels: Optional[Labels] = None
    gap: Optional[Gap] = None
    batch_dependence: Optional[BatchDependence] = None
    missing: Mapping[DataPart, str] = field(default_factory=dict)
    notes: Tuple[str, ...] = ()

    @property
    def unreadable(self) -> str:
        """Why no batch could be read; empty where some could."""
        return self.missing.get(DataPart.BATCHES, "")

    def norm(self, path: str) -> Optional[NormInput]:
        """What reached the BN at a path, None where it did not run."""
        return next((item for item in self.norms if item.path == path), None)
