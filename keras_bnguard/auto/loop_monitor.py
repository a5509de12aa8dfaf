"""Monitors a custom training loop that nobody announced: from a model's first step on, cheaply."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Callable, ContextManager, FrozenSet, Iterable, List, Optional, Set, Tuple

from keras_bnguard.backends.optimizers.lazy import step_counter
from keras_bnguard.backends.patches.model_hooks import Listener
from keras_bnguard.guard.run import MonitoredRun
from keras_bnguard.guard.run_kinds import LoopRun
from keras_bnguard.records import Finding, Moment, MomentKind
from keras_bnguard.records.ids import LayerId
from keras_bnguard.report.report import Report
from keras_bnguard.rules.evaluate import RuleFilter

SELDOM = 1024
"""From so many steps on, a check every so many steps; before that at 1, 2, 4, 8, ..."""
LISTENS = 4
"""So many steps of `train_on_batch` are listened to; after that the loop is left alone."""


class LoopKind(Enum):
    """How a loop is observed; the value is the note in its report."""

    TRAIN_ON_BATCH = "a loop of train_on_batch; checked at steps {checks}"
    OPTIMIZER = (
        "a custom training loop, observed through its optimizer; checked at steps {checks}. How "
        "each BN was called could not be observed: bng.BNGuard().watch(model) around the loop can"
    )
    STATELESS = (
        "a stateless loop: its values are outside the model, so only what was written back to "
        "the model could be observed (checked at steps {checks})"
    )


@dataclass(frozen=True)
class Loop:
    """A custom training loop as its first step shows it.

    Attributes:
        kind: how it is observed.
        line: "file.py:41", where its first step was taken, where known.
        optimizer: the optimizer that takes the steps, None for `train_on_batch`.
        anchor: ids of that optimizer and of a variable: they distinguish the steps of two loops.
    """

    kind: LoopKind
    line: Optional[str] = None
    optimizer: Any = None
    anchor: Tuple[int, int] = (0, 0)


class LoopMonitor:
    """One model in a custom training loop.

    Args:
        model: the model.
        loop: the loop.
        rule_filter: what the user selected and ignored.
        safely: makes a context that keeps internal errors from the user.
        every: a check every so many steps. Defaults to 0: at steps 1, 2, 4, 8, ...

    Attributes:
        model: see above.
        loop: see above.
    """

    def __init__(
        self,
        model: Any,
        loop: Loop,
        rule_filter: RuleFilter,
        safely: Callable[[], ContextManager[Any]],
        every: int = 0,
    ) -> None:
        self.model = model
        self.loop = loop
        observable = loop.kind is LoopKind.TRAIN_ON_BATCH
        self._kind = LoopRun(observable)
        self._run = MonitoredRun(model, self._kind, rule_filter, safely)
        self._every = every
        self._next = every or 1
        self._count = 0
        self._checks: List[int] = []
        self._shared: Set[str] = set()
        self._trained_elsewhere: FrozenSet[str] = frozenset()
        self._compiled_again = False
        self._flags_assigned = False
        self._keys: Set[int] = {id(layer) for layer in self._layers()}
        self._flags = self._present_flags()
        self._iterations_before = self._iterations()
        self._run.audit()
        if observable:
            self._run.start()

    # ------------------------------------------------------------------ changes
    @property
    def keys(self) -> Set[int]:
        """Ids of the model and its layers."""
        return self._keys

    def owns(self, listener: Listener) -> bool:
        """Whether a listener of `model_hooks` is that of this monitor."""
        return listener is self._run.listener

    def knows(self, keys: Iterable[LayerId]) -> bool:
        """Whether one of these layers belongs to the model."""
        return not self._keys.isdisjoint(keys)

    def note_other_model(self, keys: Set[int]) -> None:
        """Another model that trains has these layers: it may update what is frozen here."""
        shared = self._keys & keys
        handles = self._run.trackers.snapshot.handles
        self._shared |= {each.path for each in handles if id(each.layer) in shared}

    def note_flags(self) -> None:
        """Flags of the model were assigned."""
        self._flags_assigned = True

    def note_new_start(self) -> None:
        """The model was compiled, or weights were loaded: what comes now is another run."""
        self._flags_assigned = self._compiled_again = True

    def is_over(self) -> bool:
        """Whether the model is not what it was at the start, so that a new monitor is needed."""
        if self._compiled_again:
            return True
        if self._flags_assigned:
            self._flags_assigned = self._present_flags() != self._flags
        return self._flags_assigned

    def _layers(self) -> List[Any]:
        return [self.model, *(layer for _, layer in self._run.trackers.snapshot.layers)]

    def _present_flags(self) -> Tuple[bool, ...]:
        return tuple(bool(layer.trainable) for layer in self._layers())

    # -------------------------------------------------------------------- checks
    def step(self) -> None:
        """A step was taken (or, observed through an optimizer, is about to be)."""
        self._count += 1
        if self._count >= self._next:
            self._next = self._count + (self._every or min(self._count, SELDOM))
            self._check(Moment(MomentKind.STEP, self._count))

    def _check(self, moment: Moment) -> None:
        """Check the model, unless no step can have updated its statistics yet."""
        steps = self._steps()
        if self.loop.kind is LoopKind.STATELESS and moment.kind is MomentKind.LOOP_END:
            steps = max(steps, 1)  # Its steps count outside the model, until it is written back.
        if steps < 1 or (self._checks and steps <= self._checks[-1]):
            return
        self._checks.append(steps)
        if not self._run.trackers.calls:
            # Only a step that was observed shows whose training updated a shared BN.
            self._trained_elsewhere = frozenset(self._shared)

        def check() -> None:
            self._run.check(moment, steps=steps, trained_elsewhere=self._trained_elsewhere)

        observable = self.loop.kind is LoopKind.TRAIN_ON_BATCH
        # While a graph is being traced, values can be read in a thread of its own only.
        if observable or not self._run.trackers.snapshot.backend.step.traces:
            check()
        else:
            in_own_thread(check)
        if self._count >= LISTENS or not observable:
            self._run.stop()

    def finish(self) -> Report:
        """Check once more, unless the model was changed since, and return what is known."""
        if not self._compiled_again and not self._flags_assigned:
            self._check(Moment(MomentKind.LOOP_END))
            if self._checks and self._kind.is_frozen_for_another:
                self._run.finish()
        self._run.stop()
        return self.report()

    def abandon(self) -> None:
        """Stop listening, make no more checks."""
        self._run.stop()

    # -------------------------------------------------------------------- results
    @property
    def has_results(self) -> bool:
        """Whether there was a check or a finding."""
        return bool(self._checks) or bool(self._run.findings.all())

    def take_new_findings(self) -> Tuple[Finding, ...]:
        """The findings since the last call."""
        return self._run.findings.take_new()

    def report(self) -> Report:
        """What is known so far."""
        checks = ", ".join(map(str, self._checks)) or "none"
        return replace(self._run.report(), notes=(self.loop.kind.value.format(checks=checks),))

    # -------------------------------------------------------------------- steps
    def _steps(self) -> int:
        """Steps since the start. Observed through an optimizer, the first one does not count:
        its forward pass was before the start."""
        if self.loop.kind is LoopKind.TRAIN_ON_BATCH:
            return self._count
        done = self._iterations()
        if done is None or self._iterations_before is None:
            return self._count - 1
        return done - self._iterations_before - 1

    def _iterations(self) -> Optional[int]:
        optimizer = self.loop.optimizer
        try:
            counter = step_counter(optimizer)
            return int(self._run.trackers.snapshot.backend.values.to_numpy(counter))
        except Exception:  # Not made yet, inside a trace, or no optimizer of Keras.
            return None


def in_own_thread(work: Callable[[], Any]) -> Any:
    """Run in a thread of its own, where no trace, scope or device of the caller is open."""
    result: List[Any] = []
    fault: List[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            fault.append(error)

    thread = threading.Thread(target=run, name="keras_bnguard", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # Python is about to end; no trace is open then.
        return work()
    thread.join()
    if fault:
        raise fault[0]
    return result[0]
