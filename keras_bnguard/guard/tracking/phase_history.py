"""The phases of a model: what a phase, or a `fit`, leaves for the one after it."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any, List, Optional, Tuple

from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import Inventory, PastRun, RunFacts

_PAST: weakref.WeakKeyDictionary[Any, PastRun] = weakref.WeakKeyDictionary()
"""The last phase that was seen of every model alive."""


class PhaseHistory:
    """One phase of one run. A `fit` without a scheduler is one phase.

    Args:
        snapshot: the model as the phase begins.
        phase: the scheduler's name for it. Defaults to None.
    """

    def __init__(self, snapshot: ModelSnapshot, phase: Optional[str] = None) -> None:
        backend, model = snapshot.backend, snapshot.model
        self._phase = phase
        self._started = backend.optimizer.iterations(model)
        self._optimizer = type(getattr(model, "optimizer", None)).__name__
        self._learning_rate: Optional[float] = None
        self._loss_function = backend.step.loss_name(model)
        self._steps = 0
        self._losses: List[float] = []
        past = _PAST.get(model)
        self._before = past and replace(
            past, regularisation=_regularization_losses(snapshot, past.inventory)
        )

    def add_to(self, run: RunFacts) -> RunFacts:
        """The facts of a run with those of its phases."""
        return replace(
            run,
            phase=self._phase,
            phase_steps=self._steps,
            losses=tuple(self._losses),
            loss_function=self._loss_function,
            before=self._before,
        )

    def update(self, snapshot: ModelSnapshot, loss: Any) -> Optional[float]:
        """Note where the phase is. From its first step on, it is the one before the next.

        Args:
            snapshot: the model now.
            loss: what Keras logged for the epoch, None where nothing was logged.

        Returns:
            The learning rate now, None where it cannot be read.
        """
        backend, model = snapshot.backend, snapshot.model
        learning_rate = backend.optimizer.learning_rate_now(model)
        self._steps = max(backend.optimizer.iterations(model) - self._started, self._steps)
        if isinstance(loss, (int, float)) or hasattr(loss, "__float__"):
            self._losses.append(float(loss))
            self._steps = max(self._steps, 1)
        if learning_rate is not None:
            self._learning_rate = max(learning_rate, self._learning_rate or learning_rate)
        if self._steps >= 1:
            _PAST[model] = self._as_past(snapshot.inventory)
        return learning_rate

    def _as_past(self, inventory: Inventory) -> PastRun:
        head = (self._learning_rate, self._optimizer)
        if self._before is not None and self._before.head_learning_rate is not None:
            head = (self._before.head_learning_rate, self._before.head_optimizer)
        elif not any(norm.frozen and norm.at_default is False for norm in inventory.norms):
            head = (None, "")
        return PastRun(
            inventory=inventory,
            steps=self._steps,
            phase=self._phase,
            optimizer=self._optimizer,
            learning_rate=self._learning_rate,
            head_learning_rate=head[0],
            head_optimizer=head[1],
            loss=self._losses[-1] if self._losses else None,
            first_loss=self._losses[0] if self._losses else None,
            loss_function=self._loss_function,
        )


def _regularization_losses(snapshot: ModelSnapshot, then: Inventory) -> Tuple[float, float]:
    """What regularisers add to the loss, with the flags as they were then and as they are now."""
    backend = snapshot.backend
    old = {layer.path: layer.trainable for layer in then.layers}
    new = {layer.path: layer.trainable for layer in snapshot.inventory.layers}
    before = now = 0.0
    for path, layer in snapshot.layers:
        if not backend.graph.owns_weights(layer):
            continue
        always = backend.step.regularizes_frozen
        counted, counts = always or old.get(path, False), always or new.get(path, False)
        if counted or counts:
            term = backend.step.regularization_losses(layer)
            before += term * counted
            now += term * counts
    return before, now
