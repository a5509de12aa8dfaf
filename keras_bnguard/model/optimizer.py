"""The optimizer as rules see it: its variables, learning rate, who assigns it, weight decay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Optional, Sequence, Tuple

from keras_bnguard.backends.base import Backend
from keras_bnguard.backends.optimizers.renewal import inner_optimizer
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.records import NormKind, OptimizerFacts


@dataclass(frozen=True)
class LearningRateSetters:
    """The callbacks of one `fit` that assign the learning rate.

    Attributes:
        writers: their classes.
        settled: none of them can assign it before the first step is taken.
    """

    writers: Tuple[str, ...]
    settled: bool


def learning_rate_setters(backend: Backend, callbacks: Sequence[Any]) -> LearningRateSetters:
    """Which callbacks of a `fit` may assign the learning rate; the callbacks are not kept."""
    return LearningRateSetters(
        backend.optimizer.learning_rate_writers(callbacks),
        backend.optimizer.learning_rate_is_settled(callbacks),
    )


def take_optimizer(
    snapshot: ModelSnapshot,
    setters: Optional[LearningRateSetters] = None,
    look_for_decay: bool = False,
) -> Optional[OptimizerFacts]:
    """Describe the optimizer of a model.

    Args:
        snapshot: the model.
        setters: the callbacks that may assign the learning rate in the `fit` under way.
            Defaults to None: outside of `fit`.
        look_for_decay: also find the BN that weight decay reaches. Defaults to False.

    Returns:
        The facts, None for a model without an optimizer.
    """
    backend, model = snapshot.backend, snapshot.model
    facts = backend.optimizer.facts(model)
    if facts is None:
        return None
    optimizer = inner_optimizer(model.optimizer)
    if setters is not None:
        facts = replace(
            facts, learning_rate_writers=setters.writers, learning_rate_settled=setters.settled
        )
    if look_for_decay:
        decay, reached = _decayed(snapshot, optimizer)
        facts = replace(facts, weight_decay=decay or None, decayed=reached)
    return replace(
        facts,
        learning_rate=backend.optimizer.learning_rate_now(model),
        learning_rate_is_schedule=backend.optimizer.learning_rate_is_schedule(model),
        adaptive=backend.optimizer.is_adaptive(optimizer),
        accumulation=int(getattr(optimizer, "gradient_accumulation_steps", None) or 1),
    )


def _decayed(snapshot: ModelSnapshot, optimizer: Any) -> Tuple[float, Tuple[str, ...]]:
    """Decoupled weight decay, and the BN whose gamma or beta it reaches, trainable or not."""
    owners, variables = [], []
    for handle in snapshot.handles:
        for variable in handle.vectors()[2:]:
            if handle.kind is NormKind.KERAS and variable is not None:
                owners.append(handle.path)
                variables.append(variable)
    decay, reached = snapshot.backend.optimizer.weight_decay_of(optimizer, variables)
    paths = [owner for owner, here in zip(owners, reached) if here]
    return decay, tuple(dict.fromkeys(paths))
