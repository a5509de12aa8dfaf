"""The two modes a BN can run in: what it should do, what it did, and what proves it."""

from __future__ import annotations

from enum import Enum

from keras_bnguard.records.enums import TextEnum


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


class Verification(TextEnum):
    """What is known of a BN that is forced into inference mode; the value is in reports.

    NOT_CALLED: no call of it was seen.
    NOT_MEASURED: it was called, and its call could not be measured on its own.
    UNCHANGED: as the line above, and its statistics did not change in the first steps.
    VERIFIED: its first call was measured to run in inference mode.
    FAILED: it does not run in inference mode, or its statistics changed.
    """

    NOT_CALLED = "not called yet"
    NOT_MEASURED = "called, not measured"
    UNCHANGED = "statistics unchanged in the first steps"
    VERIFIED = "verified at the first step"
    FAILED = "failed"


class OnFailure(TextEnum):
    """What happens where a BN that is forced does not run in inference mode.

    RAISE: training stops with an error.
    WARN: one warning, and training continues.
    NOTE: only its `Verification` shows it.
    """

    RAISE = "raise"
    WARN = "warn"
    NOTE = "note"
