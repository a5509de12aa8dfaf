"""The two modes a BN can run in: what it should do, and what it did."""

from __future__ import annotations

from enum import Enum


class ExpectedMode(Enum):
    """The mode a BN should run in during training; the value is the text of a report."""

    TRAINING = "train"
    INFERENCE = "inference"


class RunMode(Enum):
    """The mode a BN runs or ran in; the value is the text of a report.

    UNKNOWN: no call of it was observed, or its `training` argument was a tensor.
    """

    TRAINING = "training"
    INFERENCE = "inference"
    UNKNOWN = "unknown"
