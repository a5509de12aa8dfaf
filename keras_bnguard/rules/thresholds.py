"""What the rules on data share: limits, and which BN they are about.

Every limit comes from `benchmarks/data_thresholds.py`; docs/data-rules.md has the tables.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

import numpy as np

from keras_bnguard.records import (
    CallSite,
    DataFacts,
    DataPart,
    Facts,
    NormInput,
    NormKind,
    NormLayer,
)
from keras_bnguard.rules.base import drops_training, expects_inference, sites_of

MAX_MEAN_SHIFT = 0.6
MAX_LOG_VARIANCE_RATIO = 1.0
MIN_VALUES = 8
MIN_ROWS = 64
MIN_BATCHES = 8
MAX_START_LEFT = 0.05


def does_not_fit(item: NormInput) -> bool:
    """Whether moving statistics do not describe what reaches the BN."""
    return item.finite and (
        item.mean_shift > MAX_MEAN_SHIFT or item.log_variance_ratio > MAX_LOG_VARIANCE_RATIO
    )


def live(facts: Facts) -> List[NormLayer]:
    """BN that normalise by the batch in training, as far as flags and calls say."""
    norms = facts.inventory.norms if facts.inventory is not None else ()
    return [norm for norm in norms if not silent(facts, norm)]


def silent(facts: Facts, norm: NormLayer) -> bool:
    """Whether a BN does not learn statistics: held, frozen, dropped, or of which little is seen."""
    sites: Tuple[CallSite, ...] = sites_of(facts.run, norm) if facts.run is not None else ()
    return (
        expects_inference(norm)
        or norm.kind is NormKind.VARIABLES
        or drops_training(norm)
        or norm.momentum == 1.0
        or (bool(sites) and all(site.arrived is False for site in sites))
    )


def values_per_row(facts: Facts, norm: NormLayer) -> Optional[float]:
    """Values per channel that one row brings to a BN; None where unknown."""
    item = measured(facts).get(norm.path)
    if item is not None:
        return item.values_per_row
    sites = sites_of(facts.run, norm) if facts.run is not None else ()
    known = [site.values_per_row for site in sites if site.values_per_row is not None]
    return float(max(known)) if known else None


def measured(facts: Facts) -> Dict[str, NormInput]:
    """What reached each BN, by path; empty without data."""
    data = facts.data
    return {item.path: item for item in data.norms} if data is not None else {}


def replicas(facts: Facts) -> int:
    """How many replicas share a batch."""
    if facts.data is not None:
        return facts.data.replicas
    return int((facts.fit_settings or {}).get("replicas") or 1)


def batch_rows(facts: Facts) -> Optional[int]:
    """Rows of a full batch in training; None where unknown."""
    told = (facts.fit_settings or {}).get("batch_size")
    if told:
        return int(told)
    data = facts.data
    if data is None or facts.why_no_batches or (facts.fit_settings is None and not data.ordered):
        return None
    return data.full_rows or None


def put_right(facts: Facts) -> bool:
    """Whether a callback of this `fit` takes new statistics when training is over."""
    return bool((facts.fit_settings or {}).get("recalibrates"))


def why_missing(facts: Facts, part: DataPart) -> Optional[str]:
    """The reason why a part of the data facts is not there, in the words of a skipped rule."""
    data: Optional[DataFacts] = facts.data
    why = None if data is None else data.missing.get(part)
    return f"needs P: {why}" if why else None


def unshuffled(data: DataFacts, item: Optional[NormInput] = None) -> bool:
    """Whether batches say that rows do not come in random order; see BNG505."""
    labels = data.labels
    if not data.ordered or data.batches < MIN_BATCHES or data.full_rows < 4:
        return False
    if labels is not None:
        if labels.n_classes == 1:
            return labels.one_hot_width >= 3 and data.rows >= 128
        if labels.within_batch_variance_ratio < MAX_LABELS_WITHIN * (1 - 1 / data.full_rows):
            return True
    return (
        item is not None
        and item.finite
        and item.within_batch_variance_ratio < MAX_WITHIN * (1 - 1 / data.full_rows)
    )


MAX_LABELS_WITHIN = 0.5
MAX_WITHIN = 0.6


def misfit_after(item: NormInput, left: float, epsilon: float) -> Tuple[float, float]:
    """What is off when so much of the present statistics is left: medians over channels of the
    mean shift, in standard deviations of the data, and of the log variance ratio."""
    parts = (item.mean, item.variance, item.moving_mean, item.moving_variance)
    if not item.finite or any(part is None for part in parts):
        return 0.0, 0.0
    mean, variance, moving_mean, moving_variance = (np.asarray(p, np.float64) for p in parts)
    ends = left * moving_variance + (1 - left) * variance
    shift = left * np.abs(mean - moving_mean) / np.sqrt(variance + epsilon)
    ratio = np.abs(np.log((ends + epsilon) / (variance + epsilon)))
    return float(np.median(shift)), float(np.median(ratio))
