"""The optimizer of a monitored run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional, Sequence

from keras_bnguard.backends.base import Backend
from keras_bnguard.model.optimizer import learning_rate_setters, take_optimizer
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import OptimizerFacts


class OptimizerTracker:
    """What is known of the optimizer, and how many steps it has taken.

    Args:
        backend: the backend of the model.
        model: the model.
        callbacks: the callbacks of `fit`, which may assign the learning rate; None where they
            are not known.
        wants_decay: whether to find the BN that weight decay reaches.

    Attributes:
        facts: what was known when its variables were compared last; None without an optimizer.
        started: its iteration count at the start.
    """

    def __init__(
        self, backend: Backend, model: Any, callbacks: Optional[Sequence[Any]], wants_decay: bool
    ) -> None:
        self._backend = backend
        self._wants_decay = wants_decay
        self._setters = None if callbacks is None else learning_rate_setters(backend, callbacks)
        self.started = backend.optimizer.iterations(model)
        self.facts: Optional[OptimizerFacts] = None

    def take(self, snapshot: ModelSnapshot) -> Optional[OptimizerFacts]:
        """Describe the optimizer beside the variables that train now."""
        return take_optimizer(snapshot, self._setters, self._wants_decay)

    def keep(self, facts: Optional[OptimizerFacts]) -> None:
        """Keep a description for the checks that do not take one."""
        self.facts = facts

    def steps(self, model: Any) -> int:
        """Steps since the start."""
        return self._backend.optimizer.iterations(model) - self.started

    def note_learning_rate(self, learning_rate: Optional[float]) -> None:
        """Keep the learning rate of now in what is known."""
        if self.facts is not None:
            self.facts = replace(self.facts, learning_rate=learning_rate)
