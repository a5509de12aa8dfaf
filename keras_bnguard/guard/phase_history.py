"""What a run remembers of the phase it is in, for the phase or the `fit` after it."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any, List, Optional, Tuple

from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import Inventory, PastRun

_PAST: weakref.WeakKeyDictionary[Any, PastRun] = weakref.WeakKeyDictionary()
"""The last phase that was seen of every model alive."""


class PhaseHistory:
    """One phase of one run; a `fit` without a scheduler is one.

    Args:
        survey: the model as the phase begins. phase: the scheduler's name for it.

    Attributes:
        before: the phase or the `fit` before, of the same model.
        steps: training steps seen in it. losses: the logged loss of its epochs.
    """

    def __init__(self, snapshot: ModelSnapshot, phase: Optional[str] = None) -> None:
        self._snapshot = snapshot
        self._phase = phase
        backend, model = snapshot.backend, snapshot.model
        self._began = backend.optimizer.iterations(model)
        self._optimizer = type(getattr(model, "optimizer", None)).__name__
        self._learning_rate: Optional[float] = None
        self.loss_function = backend.step.loss_name(model)
        self.steps = 0
        self.losses: List[float] = []
        past = _PAST.get(model)
        self.before = past and replace(
            past, regularisation=_regularization_losses(snapshot, past.inventory)
        )

    def look(
        self,
        model: Any,
        inventory: Inventory,
        iterations: int,
        loss: Any,
        learning_rate: Optional[float],
    ) -> None:
        """Note where the phase is; from the first step on it is what comes before the next."""
        self.steps = max(iterations - self._began, self.steps)
        if isinstance(loss, (int, float)) or hasattr(loss, "__float__"):
            self.losses.append(float(loss))
            self.steps = max(self.steps, 1)
        if learning_rate is not None:
            self._learning_rate = (
                learning_rate
                if self._learning_rate is None
                else max(learning_rate, self._learning_rate)
            )
        if self.steps < 1:
            return
        head = (self._learning_rate, self._optimizer)
        if self.before is not None and self.before.head_learning_rate is not None:
            head = (self.before.head_learning_rate, self.before.head_optimizer)
        elif not any(norm.frozen and norm.at_default is False for norm in inventory.norms):
            head = (None, "")
        _PAST[model] = PastRun(
            inventory=inventory,
            steps=self.steps,
            phase=self._phase,
            optimizer=self._optimizer,
            learning_rate=self._learning_rate,
            head_learning_rate=head[0],
            head_optimizer=head[1],
            loss=self.losses[-1] if self.losses else None,
            first_loss=self.losses[0] if self.losses else None,
            loss_function=self.loss_function,
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
