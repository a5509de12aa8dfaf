"""A guard in every `fit` that has none."""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, List, Optional, Tuple

from keras_bnguard.auto.run_log import RunLog
from keras_bnguard.errors import fail_safe


class Fits:
    """The `fit` calls that are running."""

    def __init__(self, log: RunLog) -> None:
        self.log = log
        self.barrier = log.barrier
        self.open = 0
        self._nested: Dict[int, int] = {}  # id(model) -> its calls of fit under way
        self._guards: List[Any] = []

    def __contains__(self, model: Any) -> bool:
        return id(model) in self._nested

    def reports(self) -> List[Any]:
        """What is known of each `fit` that is running."""
        known = (guard.report for guard in list(self._guards))
        return [report for report in known if report is not None]

    def enter(self, model: Any, callbacks: Any) -> Tuple[Any, Callable[[], None]]:
        """The callbacks to run `fit` with, and what to call when it is left."""
        from keras_bnguard.auto.guard_callback import auto_guard, own_guard, with_guard
        from keras_bnguard.backends.call_stack import user_line

        line = user_line()
        own = own_guard(callbacks)
        nested = self._nested.get(id(model), 0)
        inserted: Any = None
        guard: Any = own
        if own is None and not nested:
            emit = functools.partial(self.log.emit, model, line=line)
            guard = auto_guard(self.log.settings, emit)
            callbacks, inserted = with_guard(callbacks, guard, model)
        with self.log.lock:
            self.open += 1
            self._nested[id(model)] = nested + 1
            if not nested:
                self._guards.append(guard)

        def done() -> None:
            with self.log.lock:
                self.open -= 1
                left = self._nested.get(id(model), 1) - 1
                if left:
                    self._nested[id(model)] = left
                else:
                    self._nested.pop(id(model), None)
                if not nested:
                    self._guards = [each for each in self._guards if each is not guard]
            if not nested:
                self._leave(model, guard, inserted, line)

        return callbacks, done

    @fail_safe()
    def _leave(self, model: Any, guard: Any, inserted: Any, line: Optional[str]) -> None:
        if inserted is not None:
            inserted()
        # The second time where it has ended; the first time where an exception ended the fit.
        guard.stop_monitoring()
        self.log.collect(model, guard.report, "fit", line)
