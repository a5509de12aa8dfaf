"""How the BN of a model are called in its training step."""

from __future__ import annotations

from typing import Callable, Dict, Tuple

from keras_bnguard.backends.patches.call_tracer import CallTracer
from keras_bnguard.backends.patches.first_step import FirstStep
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import CallSite, Inventory


class StepTracker:
    """Traces the first step, and calls back before a step that it was armed for.

    Args:
        snapshot: the model.
        before_step: called right before such a step.

    Attributes:
        tracer: a context manager that traces calls; `BNGuard.watch` opens it for its block.
    """

    def __init__(self, snapshot: ModelSnapshot, before_step: Callable[[], None]) -> None:
        backend, model = snapshot.backend, snapshot.model
        self.tracer = CallTracer(backend, model, snapshot.handles, snapshot.paths)
        self._first_step = FirstStep(backend, model, self.tracer, before_step)

    def arm(self) -> None:
        """Call back before the next step."""
        self._first_step.arm()

    def disarm(self) -> None:
        """Leave the next step alone; safe to call twice."""
        self._first_step.disarm()

    @property
    def calls(self) -> Dict[str, Tuple[CallSite, ...]]:
        """Path of each BN -> its observed calls."""
        return {path: tuple(sites) for path, sites in self.tracer.sites.items()}

    def updates(self, inventory: Inventory) -> Dict[str, int]:
        """Path of each BN -> its updates in a step, as far as they were observed."""
        by_trace = self.tracer.updates
        steps = {False: 1, True: max(1, inventory.steps_per_execution)}
        return {
            path: max(n // steps[trace is None] for trace, n in counts.items())
            for path, counts in by_trace.items()
        }

    @property
    def has_run(self) -> bool:
        """Whether a call of the model was observed."""
        return bool(self.tracer.outermost)

    @property
    def leaked(self) -> bool:
        """Whether an explicit `training=` of one layer reached another one."""
        return any(site.leaked_from for sites in self.tracer.sites.values() for site in sites)

    @property
    def has_failed(self) -> bool:
        """Whether an internal error has ended the tracing."""
        return self.tracer.barrier.disabled

    def raise_error(self) -> None:
        """Raise the internal error of the tracer where there was one, for the guard's barrier.

        Raises:
            Exception: the error.
        """
        if self.tracer.barrier.error is not None:
            raise self.tracer.barrier.error
