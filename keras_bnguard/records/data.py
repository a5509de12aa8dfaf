"""What was measured on batches of the user's data: frozen, without any framework object.

Unit of a mean shift: one standard deviation of the moving statistics, sqrt(variance + epsilon).
Log variance ratios are natural logarithms: 0.69 is a factor of two either way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple

import numpy as np


@dataclass(frozen=True)
class NormInput:
    """What reached one BN while the model ran in inference mode on the batches.

    first: the first BN of its sub-model that runs. order: place among all BN that ran.
    values: values per channel in one batch (of one replica, where there are several);
    values_per_row: the same for one row. calls: how often it runs per batch.
    mean_shift: mean over channels of |mean - moving mean| in standard deviations.
    log_variance_ratio: mean over channels of |log((variance + eps) / (moving variance + eps))|.
    scale: median over channels of variance / moving variance, without epsilon, over channels
        that are not dead. within: variance inside a batch as a share of the pooled variance,
        mean over channels and over batches weighted by their values; 1.0 where all batches
        look alike.
    mean, variance: pooled over all values of all batches; moving_mean, moving_variance: those
        of the BN then; each of shape `(channels,)`, float64.
    finite: no NaN or Inf reached it.
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
    scale: float = 1.0
    within: float = 1.0
    finite: bool = True
    mean: Optional[np.ndarray] = field(default=None, compare=False, repr=False)
    variance: Optional[np.ndarray] = field(default=None, compare=False, repr=False)
    moving_mean: Optional[np.ndarray] = field(default=None, compare=False, repr=False)
    moving_variance: Optional[np.ndarray] = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Labels:
    """The labels of the batches, where there is one class label a row.

    kinds: different labels seen. single: batches of one label only, out of `batches`.
    within: variance of the one-hot labels inside a batch as a share of the pooled one,
        1 - 1/rows where rows are drawn at random, 0 where each batch has one label.
    """

    n_classes: int
    batches: int
    single: int
    within: float
    classes: int = 0


@dataclass(frozen=True)
class Gap:
    """Loss of the same batches with live BN by the batch and by their moving statistics.

    training, inference: mean over batches weighted by rows. spread: standard error over
    batches of the difference. values: fewest values per channel of a live BN in a batch.
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

    difference: largest |alone - in batch| over all outputs, as a share of `scale`, the
    standard deviation of the outputs over the batch. difference_forced: the same with every BN forced
    into inference mode. random: the same batch twice did not give the same outputs.
    layers: the BN that normalised by the batch. proven: nothing was run, for the graph shows
    that every BN runs in inference mode.
    """

    difference: float = 0.0
    difference_forced: float = 0.0
    scale: float = 1.0
    random: bool = False
    layers: Tuple[str, ...] = ()
    proven: bool = False


@dataclass(frozen=True)
class DataFacts:
    """All that was learnt from the batches that were looked at.

    kind: class of the data. rows, batches: what was looked at; full_rows: rows of a full
    batch, last_rows: of the last one, None where the end was not reached.
    samples: rows of the whole data, None where unknown. replicas: how many share a batch.
    ordered: the batches come as training will get them. moment: when it was measured.
    low, high: range of the first input. dtype: its type.
    missing: part -> why it is not there; parts are "batches", "norms", "labels", "gap",
    "alone". notes: what was cut short, and why.
    """

    kind: str = ""
    moment: str = "train begin"
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
    alone: Optional[BatchDependence] = None
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: Tuple[str, ...] = ()

    def norm(self, path: str) -> Optional[NormInput]:
        """What reached the BN at a path, None where it did not run."""
        return next((item for item in self.norms if item.path == path), None)
