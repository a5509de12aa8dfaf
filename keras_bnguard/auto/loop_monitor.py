"""Watch a loop that nobody announced: from a model's first step on, every so often, cheaply."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, Callable, List, Optional, Set, Tuple

from keras_bnguard.backends.base import Backend
from keras_bnguard.guard.run import GuardRun
from keras_bnguard.records import Finding, Moment, MomentKind, Outcome, SkipKind, SkipReason
from keras_bnguard.report.report import Report
from keras_bnguard.rules.evaluate import RuleFilter

SELDOM = 1024
"""From so many steps on, a look every so many steps; before that at 1, 2, 4, 8, ..."""

BLIND = ("BNG206", "BNG405")
"""Rules about statistics that stand still. A loop may want that, and says so with
`training=False` at its calls, which are not seen through an optimizer."""

NOTES = {
    "train_on_batch": "a loop of train_on_batch; looked at steps {looks}",
    "optimizer": (
        "a loop of your own, seen through its optimizer; looked at steps {looks}. How each BN "
        "was called could not be seen: with bng.BNGuard().watch(model) around the loop it can"
    ),
    "stateless": (
        "a stateless loop: its values live outside the model, so only what was written back "
        "to the model could be seen (looked at steps {looks})"
    ),
}


class LoopMonitor:
    """One model in a loop of the user's own.

    Args:
        backend: the adapter. model: the model. kind: "train_on_batch", "optimizer" or
        "stateless". every: look each so many steps, 0 for steps 1, 2, 4, 8, ...
        anchor: what tells one step from the next: id of an optimizer and of a variable.
    """

    def __init__(
        self,
        backend: Backend,
        model: Any,
        kind: str,
        rule_filter: RuleFilter,
        protect: Callable[[Callable[[], Any]], Any],
        every: int = 0,
        optimizer: Any = None,
        anchor: Tuple[int, int] = (0, 0),
    ) -> None:
        self.kind = kind
        self.anchor = anchor
        self.backend = backend
        self.model = model
        self.found: List[Finding] = []
        self.line: Optional[str] = None  # where the loop's first step was taken
        self.disturbed = False
        self.recompiled = False
        self.looks: List[int] = []
        self._every = every
        self._count = 0
        self._next = every or 1
        self._optimizer = optimizer
        if kind != "train_on_batch":
            rule_filter = replace(
                rule_filter, ignore=(*rule_filter.ignore, *((code, ()) for code in BLIND))
            )
        self._run = GuardRun(
            backend, model, rule_filter, emit=self.found.append, protect=protect, in_fit=False
        )
        self._rule_filter = rule_filter
        self._elsewhere: Set[str] = set()
        self._keys: Set[int] = {id(model), *(id(layer) for _, layer in self._run.snapshot.layers)}
        self._flags = self._present_flags()
        self._steps_before = self._iterations()
        self._run.begin()
        if kind == "train_on_batch":
            self._run.start()

    # ------------------------------------------------------------------ changes
    def knows(self, keys: Any) -> bool:
        """Whether one of these layers belongs to the model."""
        return not self._keys.isdisjoint(keys)

    def also_trained(self, keys: Set[int]) -> None:
        """Another model that trains holds these layers: it may move what stands still here."""
        shared = self._keys & keys
        handles = self._run.snapshot.handles
        self._elsewhere |= {each.path for each in handles if id(each.layer) in shared}

    @property
    def keys(self) -> Set[int]:
        """Ids of the model and its layers."""
        return self._keys

    def is_over(self) -> bool:
        """Whether the model is not what it was when the watch began: a new one has to begin."""
        if self.recompiled:
            return True
        if self.disturbed:
            self.disturbed = self._present_flags() != self._flags
        return self.disturbed

    def _present_flags(self) -> Tuple[bool, ...]:
        layers = [self.model, *(layer for _, layer in self._run.snapshot.layers)]
        return tuple(bool(layer.trainable) for layer in layers)

    # -------------------------------------------------------------------- looks
    def step(self) -> None:
        """A step was taken (or, seen through an optimizer, is about to be)."""
        self._count += 1
        if self._count >= self._next:
            self._next = self._count + (self._every or min(self._count, SELDOM))
            self.look(Moment(MomentKind.STEP, self._count))

    def look(self, moment: Moment) -> None:
        """Read the statistics and judge, unless no step can have moved them yet."""
        steps = self._steps()
        if steps < 1 or (self.looks and steps <= self.looks[-1]):
            return
        self.looks.append(steps)
        self._run.steps = max(self._run.steps, steps)
        if self._elsewhere and not self._run.tracer.sites:
            # Only a step that was seen tells whose training moved a shared BN.
            changed = ("BNG404", tuple(sorted(self._elsewhere)))
            self._run._rule_filter = replace(
                self._rule_filter, ignore=(*self._rule_filter.ignore, changed)
            )
        if self.kind == "train_on_batch" or not _in_a_trace(self.backend):
            self._run.look(moment)
        else:
            elsewhere(lambda: self._run.look(moment))
        if self._count >= 4 or self.kind != "train_on_batch":
            self._run.stop()

    def finish(self) -> Report:
        """The last look, and what is known. No look at a model that was changed since."""
        if not self.recompiled and not self.disturbed:
            self.look(Moment(MomentKind.LOOP_END))
        self._run.stop()
        return self.report()

    def abandon(self) -> None:
        """Stop listening, look no more."""
        self._run.stop()

    def report(self) -> Report:
        self._run.notes[:] = [
            NOTES[self.kind].format(looks=", ".join(map(str, self.looks)) or "none")
        ]
        return _with_blind_rules(self._run.report(), self.kind)

    # -------------------------------------------------------------------- steps
    def _steps(self) -> int:
        """Steps since the watch began. Seen through an optimizer, the first one's forward
        pass was before it, so that one does not count."""
        if self.kind == "train_on_batch":
            return self._count
        done = self._iterations()
        if done is None or self._steps_before is None:
            return self._count - 1
        return done - self._steps_before - 1

    def _iterations(self) -> Optional[int]:
        counter = getattr(self._optimizer, "iterations", None)
        if counter is None:
            return None
        try:
            return int(self.backend.values.to_numpy(counter))
        except Exception:
            return None


def _with_blind_rules(report: Report, kind: str) -> Report:
    if kind == "train_on_batch":
        return report
    outcomes = tuple(
        Outcome.skipped(
            o.code,
            SkipReason(SkipKind.CALLS_NOT_OBSERVABLE, "how each BN was called could not be seen"),
        )
        if o.code in BLIND
        else o
        for o in report.outcomes
    )
    return replace(report, outcomes=outcomes)


def _in_a_trace(backend: Backend) -> bool:
    """Reading values needs a thread of its own while a graph is being traced."""
    return backend.step.traces


def elsewhere(work: Callable[[], Any]) -> Any:
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
