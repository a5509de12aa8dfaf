"""Compare the first epoch of a phase with its plan, and warn where they differ."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional, Sequence

from keras_bnguard.backends.call_stack import warn_user
from keras_bnguard.backends.optimizers.further import learning_rate_of_step
from keras_bnguard.backends.optimizers.renewal import inner_optimizer
from keras_bnguard.backends.patches.next_step import NextStep
from keras_bnguard.errors import FaultBarrier, fail_safe
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.phases.plan import PlannedPhase


class FirstEpoch:
    """Checks the learning rate at the first step of a phase, and the rest after its first epoch.

    What differs is one warning, with the cause where it is known. Where it is not certain that
    something is wrong, as for a parameter without a gradient, nothing is reported.

    Args:
        snapshot: the model in training.
        callbacks: of the running `fit`, all of them.
    """

    def __init__(self, snapshot: ModelSnapshot, callbacks: Sequence[Any]) -> None:
        self._snapshot = snapshot
        self._writers: Sequence[str] = snapshot.backend.optimizer.learning_rate_writers(callbacks)
        self._planned: Optional[PlannedPhase] = None
        self._iterations = 0
        self._statistics: Dict[str, bytes] = {}
        self._step: Optional[_LearningRateOfStep] = None
        self.barrier = FaultBarrier(goes_on=True)

    @fail_safe()
    def begin(self, planned: PlannedPhase) -> None:
        """The first epoch of a phase begins, with the values in the model.

        Args:
            planned: the phase.
        """
        self.disarm()
        self._planned = planned
        backend, model = self._snapshot.backend, self._snapshot.model
        self._iterations = backend.optimizer.iterations(model)
        self._statistics = self._read_statistics(planned.training)
        if planned.phase.learning_rate_change.sets_number:
            expected = backend.optimizer.learning_rate(model)
            self._step = _LearningRateOfStep(self._snapshot, expected, self._compare)
            self._step.arm()

    def expect(self, learning_rate: Optional[float]) -> None:
        """The learning rate that the next step should use, where a warm-up sets it; None: as is."""
        if self._step is not None and learning_rate is not None:
            self._step.expected = learning_rate

    @fail_safe()
    def end(self) -> None:
        """An epoch is over, with the values in the model; no-op after the first of a phase."""
        planned, self._planned = self._planned, None
        self.disarm()
        if planned is None:
            return
        backend, model = self._snapshot.backend, self._snapshot.model
        steps = backend.optimizer.iterations(model) - self._iterations
        if steps <= 0:
            # With loss scaling, steps whose gradients overflow do not count.
            if inner_optimizer(model.optimizer) is model.optimizer:
                _warn(
                    planned,
                    "the optimizer of compile() took no step in the first epoch: the training "
                    "step uses another one, which this phase does not set. Keep it in an "
                    "attribute of the model, and name it: learning_rate={'my_optimizer': 1e-4}.",
                )
            return
        now = self._read_statistics(planned.training)
        still = [path for path, value in self._statistics.items() if now.get(path) == value]
        if still and steps > 1:
            _warn(
                planned,
                f"the statistics of {_listed(still)} did not change in the first epoch, though "
                "this phase has them in training mode: they are called with training=False, or "
                "not at all.",
            )

    def disarm(self) -> None:
        """Take back what `begin` put in the place of the next step."""
        if self._step is not None:
            self._step.disarm()
            self._step = None

    def _compare(self, expected: float, used: float) -> None:
        if self._planned is None or math.isclose(expected, used, rel_tol=1e-4):
            return
        by = " and ".join(self._writers) or "a callback or the training step"
        _warn(
            self._planned,
            f"its learning rate is {expected:.3g}, and its first step used {used:.3g}: {by} of "
            "this fit sets it too. Leave the learning rate to one of them: take it out of the "
            "phase, or take the other out of fit.",
        )

    def _read_statistics(self, paths: Sequence[str]) -> Dict[str, bytes]:
        """The statistics of built BN that can change, by path."""
        values = self._snapshot.backend.values
        values.sync(self._snapshot.model)
        handles = [
            handle
            for handle in self._snapshot.handles
            if handle.path in paths and handle.settings["momentum"] not in (None, 1.0)
        ]
        states = values.states(handles, affine=False)
        return {
            handle.path: state.mean.tobytes() + state.variance.tobytes()
            for handle, state in zip(handles, states)
            if state.mean is not None and state.variance is not None
        }


class _LearningRateOfStep(NextStep):
    """Reads the learning rate that the next step uses, after all callbacks have set theirs.

    Args:
        snapshot: the model.
        expected: the learning rate of the phase, None where it is not known.
        compare: called with the expected and the present learning rate.
    """

    def __init__(
        self,
        snapshot: ModelSnapshot,
        expected: Optional[float],
        compare: Callable[[float, float], None],
    ) -> None:
        super().__init__(snapshot.backend, snapshot.model)
        self.expected = expected
        self._compare = compare
        self.barrier = FaultBarrier(goes_on=True)

    def run(self, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self._read(args)
        return original(*args, **kwargs)

    @fail_safe()
    def _read(self, args: Any) -> None:
        model = self._model()
        used = learning_rate_of_step(self._backend, model, args)
        if used is not None and self.expected is not None:
            self._compare(self.expected, used)


def _warn(planned: PlannedPhase, message: str) -> None:
    warn_user(f"phase {planned.phase.name!r}: {message}")


def _listed(paths: List[str]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(paths[:3]) + more
