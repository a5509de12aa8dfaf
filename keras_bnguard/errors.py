"""Every exception and warning of this package, and the barrier in front of internal errors."""

from __future__ import annotations

import contextlib
import functools
import traceback
import warnings
from typing import Any, Callable, List, Optional, Protocol, TypeVar, cast


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
    """A finding of severity `error` or `warning`; `InternalErrorWarning` for internal errors."""


class InternalErrorWarning(BNGuardWarning):
    """An internal error of this package. The training that it happened in goes on."""


class FaultBarrier:
    """Keeps internal errors of this package away from the user's training.

    As a context manager it swallows and notes an exception of the block; `fail_safe` does the
    same for a method. The first one is reported as an `InternalErrorWarning`, once, and never
    raised, also where warnings are errors: it is not about the user's training. A
    `FindingError` passes, as it is meant for the user.

    Args:
        disable: called at the first internal error, to take everything off. Defaults to None.
        goes_on: whether the owner goes on working after an internal error. Defaults to False.
        warns: whether the first internal error is reported as a warning. Defaults to True.

    Attributes:
        faults: the internal errors with their tracebacks, oldest first, at most 10.
        error: the first internal error, None while there is none.
    """

    KEPT = 10

    def __init__(
        self,
        disable: Optional[Callable[[], Any]] = None,
        *,
        goes_on: bool = False,
        warns: bool = True,
    ) -> None:
        self._disable = disable
        self._goes_on = goes_on
        self._warns = warns
        self.faults: List[str] = []
        self.error: Optional[Exception] = None

    @property
    def disabled(self) -> bool:
        """Whether an internal error has ended the work of the owner."""
        return self.error is not None and not self._goes_on

    def __enter__(self) -> FaultBarrier:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if not isinstance(error, Exception) or isinstance(error, FindingError):
            return False
        self.note(error)
        return True

    def note(self, error: Exception) -> None:
        """Keep an internal error; the first one disables the owner and is reported."""
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        if len(self.faults) < self.KEPT:
            self.faults.append(f"{error!r}\n{trace}")
        if self.error is not None:
            return
        self.error = error
        if self._disable is not None:
            with contextlib.suppress(Exception):
                self._disable()
        if self._warns:
            done = "" if self._goes_on else " and disabled itself"
            with contextlib.suppress(InternalErrorWarning):
                warnings.warn(
                    f"keras_bnguard hit an internal error{done}; training continues. "
                    f"{self.faults[0]}",
                    InternalErrorWarning,
                    stacklevel=3,
                )


class HasBarrier(Protocol):
    """An object whose `fail_safe` methods note internal errors in its barrier."""

    @property
    def barrier(self) -> FaultBarrier: ...


Method = TypeVar("Method", bound=Callable[..., Any])


def fail_safe(result: Any = None) -> Callable[[Method], Method]:
    """Decorator of a method that runs inside the user's training: see `FaultBarrier`.

    Args:
        result: what the method returns after an internal error, or a function of the method's
            arguments that makes it. Defaults to None.

    Returns:
        The decorator. The method's object needs an attribute `barrier`.
    """

    def decorate(method: Method) -> Method:
        @functools.wraps(method)
        def careful(self: HasBarrier, *args: Any, **kwargs: Any) -> Any:
            if not self.barrier.disabled:
                # No `with`: AutoGraph rewrites this function where it runs inside a step.
                try:
                    return method(self, *args, **kwargs)
                except FindingError:
                    raise
                except Exception as error:
                    self.barrier.note(error)
            return result(*args) if callable(result) else result

        return cast(Method, careful)

    return decorate
