"""The first `evaluate` and the first `predict` of every model that no `fit` is around."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

from keras_bnguard.auto.fits import Fits
from keras_bnguard.auto.run_log import RunLog
from keras_bnguard.errors import fail_safe

if TYPE_CHECKING:  # Loading the watch loads NumPy, before the script has asked for it.
    from keras_bnguard.auto.inference_watch import InferenceWatch


def _nothing() -> None:
    """Nothing is to be done afterwards."""


class Inferences:
    """Which passes were watched; a pass is watched once, for a later one was compiled by it.

    Args:
        log: where the results go.
        fits: the `fit` calls that are running.
    """

    def __init__(self, log: RunLog, fits: Fits) -> None:
        self.log = log
        self.barrier = log.barrier
        self._fits = fits
        self._seen: Dict[Tuple[int, str], Any] = {}

    @fail_safe(lambda *args: _nothing)
    def before(self, model: Any, name: str) -> Callable[[], None]:
        """Before `evaluate` or `predict` of a model; returns what to call after it.

        Args:
            model: the model.
            name: "evaluate" or "predict".
        """
        if not self.log.on or (id(model), name) in self._seen or model in self._fits:
            return _nothing
        if self.log.unwatchable():
            return _nothing
        self._remember(model, name)
        from keras_bnguard.auto.inference_watch import InferenceWatch
        from keras_bnguard.backends.call_stack import user_line
        from keras_bnguard.records import Moment, MomentKind
        from keras_bnguard.rules.evaluate import RuleFilter

        settings = self.log.settings
        kind = MomentKind.EVALUATE if name == "evaluate" else MomentKind.PREDICT
        rule_filter = RuleFilter.of(settings.select, settings.ignore)
        watch = InferenceWatch(model, Moment(kind), rule_filter)
        line = user_line()
        return lambda: self._after(model, watch, name, line)

    @fail_safe()
    def _after(self, model: Any, watch: InferenceWatch, name: str, line: Optional[str]) -> None:
        report = watch.finish()
        if report is None or all(self.log.has_found(model, each) for each in report.findings):
            return
        self.log.collect_outside(model, report, name, line)
        for finding in report.findings:
            self.log.emit(model, finding, line)

    def _remember(self, model: Any, name: str) -> None:
        key = (id(model), name)
        self._seen[key] = weakref.ref(model, lambda ref: self._seen.pop(key, None))
