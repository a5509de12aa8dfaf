"""Limits that several rules share; a limit of one rule is in the file of that rule.

The limits on data come from `benchmarks/data_thresholds.py`; docs/data-rules.md has the tables.
"""

from __future__ import annotations

MAX_MEAN_SHIFT = 0.6
"""Mean over channels of |mean - moving mean|, in standard deviations (BNG103, BNG504)."""

MAX_LOG_VARIANCE_RATIO = 1.0
"""Mean over channels of the absolute log variance ratio (BNG103, BNG504)."""

MAX_SCALE = 1e2
"""Variance of the data over moving variance, or its inverse (BNG501, BNG504)."""

MIN_VALUES = 8
"""Values per channel in a batch (BNG502, BNG503, BNG506)."""

MIN_ROWS = 64
"""Rows of data before statistics are compared with them (BNG103, BNG504)."""

MIN_BATCHES = 8
"""Batches before their order is judged (BNG505)."""

MAX_LABELS_WITHIN = 0.5
"""Within-batch variance ratio of one-hot labels, as a share of that of shuffled rows (BNG505)."""

MAX_WITHIN = 0.6
"""The same ratio for the inputs of a BN (BNG505)."""

MAX_INITIAL_WEIGHT = 0.05
"""Remaining weight of the initial value in a moving average (BNG301)."""

MIN_STEPS = 10
"""Steps of a run whose convergence is judged: a shorter one is a trial (BNG301, BNG407)."""

MIN_DISTANCE = 0.05
"""Norm(other weights - weights) / norm(weights): below it statistics still fit (BNG603, BNG609)."""
