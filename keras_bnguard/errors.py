"""Every exception and warning of this package, and the barrier in front of internal errors."""

from __future__ import annotations

import contextlib
import functools
import traceback
import warnings
from typing import Any, Callable, List, Optional, Protocol, TypeVar, cast


class BNGuardError(Exception):
    """Base of every error this package raises on purpose.

    Catch it to catch all of them. Internal errors of the package are no `BNGuardError`: they
    never reach the user's training (see `FaultBarrier`).
    """


class SelectorError(BNGuardError, ValueError):
    """A selector of layers cannot be used.

    Raised where it matches no layer of the model (the message lists near misses), is no valid
    regular expression, or is neither a text, a layer class nor a function. Every argument
    named `layers`, and `train` of a `Phase`, can raise it.
    """


class UnsupportedModelError(BNGuardError, TypeError):
    """A model cannot be used for what was asked.

    Raised where the object is no Keras model, where it is not built or not compiled and has to
    be, or where the result would be wrong, such as cached features of a backbone that trains.
    """


class MissingKerasError(BNGuardError, ImportError):
    """No Keras is installed, or none of the installed ones can be imported.

    Raised by what needs a Keras before there is a model: `GuardedModel` and `bnguard audit`.
    """


class MissingExtraError(BNGuardError, ImportError):
    """An optional package is not installed; the message has the command that installs it.

    Raised when the feature is asked for, before training: HTML reports, plots, TensorBoard,
    YAML schedules, the demo.
    """


class ModelFileError(BNGuardError, ValueError):
    """A model file is missing, broken, or would run code that came with it.

    Raised by `bnguard audit FILE`, which prints it as one line and ends with exit code 2.
    """


class SettingError(BNGuardError, ValueError):
    """An argument or a setting has a value that it cannot have.

    Raised when the object is made or the function is called, before training. For settings the
    message names the place: arguments, the variable BNGUARD, or the file.
    """


class DataError(BNGuardError, ValueError):
    """Data cannot be read, or the model cannot take it.

    Raised where data can be read only once, has no batch, or has a shape that the model refuses.
    """


class ScheduleError(SettingError):
    """A schedule of phases cannot be run.

    Raised where a phase never ends, trains nothing, or asks for something that the model, the
    optimizer or another callback would override; for a YAML file with file and line.
    """


class InferenceNotForcedError(BNGuardError):
    """A BN that is forced into inference mode does not run in it.

    Raised while the first step is traced, before any weight changes, or right after one of the
    first steps, with the statistics restored bit for bit. The message names the BN, its class
    and the reason. `on_failure="warn"` gives a warning in its place.
    """


class FindingError(BNGuardError):
    """A finding of severity error or warning, where `on_finding="raise"`.

    Raised by `BNGuard` and `enable_warnings` at the check that finds it; it ends the training.

    Attributes:
        finding: the `Finding`.
    """

    def __init__(self, message: str, finding: object = None) -> None:
        super().__init__(message)
        self.finding = finding


class BNGuardWarning(UserWarning):
    """A finding of severity error or warning, where `on_finding="warn"`.

    Emitted once per finding and run. `warnings.simplefilter("error", bng.BNGuardWarning)` turns
    findings into errors; internal errors of the package stay warnings.
    """


class InternalErrorWarning(BNGuardWarning):
    """An internal error of this package; the training in which it happened continues.

    Emitted once per guard or schedule, with the traceback. Please report it.
    """


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
