"""Every exception and warning of this package."""

from __future__ import annotations


class BNGuardError(Exception):
    """Base of every error this package raises on purpose."""


class SelectorError(BNGuardError, ValueError):
    """A selector matches no layer, or is not of a kind that selects layers."""


class UnsupportedModelError(BNGuardError, TypeError):
    """The object in hand is not a model of a Keras that this package knows."""


class MissingKerasError(BNGuardError, ImportError):
    """No Keras is installed, or none of the installed ones can be imported."""


class MissingExtraError(BNGuardError, ImportError):
    """A part of this package needs an optional dependency that is not installed."""


class ModelFileError(BNGuardError, ValueError):
    """A model file is missing, broken, or would run code that came with it."""


class SettingError(BNGuardError, ValueError):
    """An argument of this package has a value it cannot work with."""


class DataError(BNGuardError, ValueError):
    """Data that cannot be looked at: read only once, empty, or of a shape the model refuses."""


class ScheduleError(SettingError):
    """A schedule of phases cannot be run: it never ends, trains nothing, or fights the model."""


class FindingError(BNGuardError):
    """Raised for a finding when `BNGuard(on_finding="raise")`.

    Attributes:
        finding: the `keras_bnguard.records.Finding` that was found.
    """

    def __init__(self, message: str, finding: object = None) -> None:
        super().__init__(message)
        self.finding = finding


class BNGuardWarning(UserWarning):
    """A finding of severity `error` or `warning`, or a fault inside the guard itself."""
