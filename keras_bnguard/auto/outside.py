"""Calls with `training=True` between the end of a `fit` and the next training."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional

from keras_bnguard.auto.fits import Fits
from keras_bnguard.auto.run_log import RunLog
from keras_bnguard.errors import fail_safe

if TYPE_CHECKING:  # Loading it loads NumPy, before the script has asked for it.
    from keras_bnguard.auto.outside_call import OutsideCall

KEEP_CALLS = 4
"""A call keeps its model alive until the next training; so many models at most."""


class Outside:
    """The models that `fit` has trained, and what their calls outside training did.

    Args:
        log: where the results go.
        fits: the `fit` calls that are running.
        began: called after something was seen that has to be judged at the end of the process.
    """

    def __init__(self, log: RunLog, fits: Fits, began: Callable[[], None]) -> None:
        self.log = log
        self.barrier = log.barrier
        self._fits = fits
        self._began = began
        self._fitted: weakref.WeakSet[Any] = weakref.WeakSet()
        self._calls: Dict[int, OutsideCall] = {}
        self._local = threading.local()

    @fail_safe()
    def after_fit(self, model: Any) -> None:
        """A `fit` of a model has ended."""
        self._fitted.add(model)

    def before(self, model: Any) -> Optional[Callable[[], None]]:
        """Before a call with `training=True`; returns what to call after it.

        A call inside a trace, where values cannot be read, is left alone.
        """
        if not self.log.on or self._fits.open or not self._fitted or model not in self._fitted:
            return None
        if getattr(self._local, "inside", False):
            return None
        self._local.inside = True
        try:
            return self._before(model)
        except Exception:
            self._calls.pop(id(model), None)
            return None
        finally:
            self._local.inside = False

    def _before(self, model: Any) -> Optional[Callable[[], None]]:
        from keras_bnguard.auto.outside_call import OutsideCall
        from keras_bnguard.backends.call_stack import called_by_us, user_line

        call = self._calls.get(id(model))
        if call is not None and call.settled:
            call.count()
            return None
        if called_by_us():
            return None
        if call is None:
            if len(self._calls) >= KEEP_CALLS:
                return None
            call = self._calls[id(model)] = OutsideCall(model, user_line())
            self._began()
        return lambda: self._after(model, call)

    def _after(self, model: Any, call: OutsideCall) -> None:
        try:
            call.after_call()
        except Exception:
            self._calls.pop(id(model), None)

    def forget(self) -> None:
        """A step was taken, or weights were loaded: what changes now has another cause."""
        self._calls.clear()
        self._fitted.clear()

    def before_step(self) -> None:
        """An optimizer takes a step; one inside `fit` has been judged when that began."""
        if not self._fits.open:
            self.forget()

    @fail_safe()
    def judge(self) -> None:
        """Training begins, or the script ends: report what calls before it changed."""
        if not self._calls:
            return
        from keras_bnguard.rules.evaluate import RuleFilter

        calls, self._calls = list(self._calls.values()), {}
        settings = self.log.settings
        for call in calls:
            report = call.finish(RuleFilter.of(settings.select, settings.ignore))
            if report is None or all(self.log.has_found(call.model, f) for f in report.findings):
                continue
            self.log.collect_outside(call.model, report, "outside training")
            for finding in report.findings:
                self.log.emit(call.model, finding)
