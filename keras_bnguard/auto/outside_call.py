"""Statistics and weights of a model around its calls with `training=True` outside training."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import numpy as np

from keras_bnguard.guard.rule_runner import RuleRunner
from keras_bnguard.guard.tracking.readable_norms import ReadableNorms
from keras_bnguard.model.expected_mode import modes
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.records import AUDIT, Facts, OutsideChange, RunFacts, Trigger
from keras_bnguard.report.report import Report
from keras_bnguard.rules.evaluate import RuleFilter
from keras_bnguard.statistics.drift import log_variance_ratio, mean_shift

ENDS = 2
"""So many trainable variables at each end stand for all of them, beside gamma and beta."""
TRIES = 3
"""After so many calls that changed nothing the model is left alone until the next training."""


class OutsideCall:
    """A model right before such a call.

    Args:
        model: the model.
        source: "file.py:41" of the call, None where unknown.
    """

    def __init__(self, model: Any, source: Optional[str]) -> None:
        self.model = model
        self._source = source
        self._snapshot = take_snapshot(model)
        self._norms = ReadableNorms(self._snapshot.backend, self._snapshot.handles)
        self._before = self._norms.read()
        self._weights = self._read_weights()
        self._calls = 0
        self._changed = False

    @property
    def settled(self) -> bool:
        """Whether the next call has nothing to show."""
        return self._changed or self._calls >= TRIES or not len(self._norms)

    def after_call(self) -> None:
        """A call has ended."""
        self._calls += 1
        self._changed = bool(self._changes())

    def count(self) -> None:
        """A call after which nothing is compared."""
        self._calls += 1

    def finish(self, rule_filter: RuleFilter) -> Optional[Report]:
        """Training begins, or the script ends.

        Args:
            rule_filter: what the user selected and ignored.

        Returns:
            A report where something was found.
        """
        if not self._changed or self._read_weights() != self._weights:
            return None
        changes = self._changes()
        if not changes:
            return None
        inventory = self._snapshot.inventory
        outside = OutsideChange(changes, self._calls, self._source)
        rules = RuleRunner(rule_filter)
        rules.run(Trigger.OUTSIDE, Facts(inventory, run=RunFacts(moment=AUDIT, outside=outside)))
        found = rules.findings.all()
        if not found:
            return None
        return Report(
            model=inventory.model,
            stack=inventory.stack,
            findings=found,
            outcomes=rules.outcomes,
            modes=modes(inventory),
            weights=inventory.weights,
        )

    def _changes(self) -> Dict[str, float]:
        """Path of each BN that changed -> how much, on average over its channels."""
        now, before, norms = self._norms.read(), self._before, self._norms
        changed = norms.layout.any(now.differs(before))
        shift = mean_shift(now.mean, before.mean, before.variance, norms.epsilon)
        ratio = log_variance_ratio(now.variance, before.variance, norms.epsilon)
        size = np.maximum(norms.layout.mean(shift), norms.layout.mean(ratio))
        return {path: float(size[i]) for path, i in norms.index.items() if changed[i]}

    def _read_weights(self) -> List[bytes]:
        values = self._snapshot.backend.values
        states = self._norms.states().values()
        vectors = [v for state in states for v in (state.gamma, state.beta) if v is not None]
        trainable = list(self.model.trainable_variables)
        ends = trainable[:ENDS] + trainable[-ENDS:]
        return [np.asarray(v).tobytes() for v in [*vectors, *map(values.to_numpy, ends)]]
