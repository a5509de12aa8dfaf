"""Record how a training step calls its BN, at the next step that runs."""

from __future__ import annotations

from typing import Any, Callable

from keras_bnguard.backends.patches.call_tracer import CallTracer
from keras_bnguard.backends.patches.next_step import NextStep


class FirstStep(NextStep):
    """Runs code right before the next step of a model, and traces the calls of the first one.

    Args:
        backend: the backend of the model.
        model: a weak reference to it is kept.
        tracer: open during the first step that is seen.
        before: called right before a step that was armed for.
    """

    def __init__(
        self, backend: Any, model: Any, tracer: CallTracer, before: Callable[[], None]
    ) -> None:
        super().__init__(backend, model)
        self._tracer = tracer
        self._before = before
        self._traced = False

    def run(self, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """One real step, with the tracer open if it has not seen one yet."""
        self._before()
        if self._traced:
            return original(*args, **kwargs)
        self._traced = True
        with self._tracer:
            return original(*args, **kwargs)
