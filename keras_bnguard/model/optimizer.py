"""The optimizer as rules see it: what it knows, its rate and who assigns it, its decay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Optional, Sequence, Tuple

from keras_bnguard.backends.base import Engine
from keras_bnguard.backends.training import inner_optimizer
from keras_bnguard.model.snapshot import Survey
from keras_bnguard.records import OptimizerFacts


@dataclass(frozen=True)
class RateSetters:
    """writers: classes of the callbacks of a `fit` that assign the learning rate; settled:
    none can before the first step is taken."""

    writers: Tuple[str, ...]
    settled: bool


def rate_setters(engine: Engine, callbacks: Sequence[Any]) -> RateSetters:
    """Who among the callbacks of a `fit` may assign the rate; the callbacks are not kept."""
    return RateSetters(engine.rate_writers(callbacks), engine.rate_is_settled(callbacks))


def take_optimizer(
    survey: Survey, setters: Optional[RateSetters] = None, look_for_decay: bool = False
) -> Optional[OptimizerFacts]:
    """Describe the optimizer of a model.

    Args:
        survey: the model.
        setters: who may assign the rate in the `fit` under way, None outside of one.
        look_for_decay: also find the BN that weight decay reaches.

    Returns:
        The facts, None for a model without an optimizer.
    """
    engine, model = survey.engine, survey.model
    facts = engine.optimizer_facts(model)
    if facts is None:
        return None
    optimizer = inner_optimizer(model.optimizer)
    if setters is not None:
        facts = replace(facts, rate_writers=setters.writers, rate_settled=setters.settled)
    if look_for_decay:
        decay, reached = _decayed(survey, optimizer)
        facts = replace(facts, weight_decay=decay or None, decayed=reached)
    return replace(
        facts,
        rate=engine.rate_now(model),
        rate_is_schedule=engine.rate_is_schedule(model),
        adaptive=engine.is_adaptive(optimizer),
        accumulation=int(getattr(optimizer, "gradient_accumulation_steps", None) or 1),
    )


def _decayed(survey: Survey, optimizer: Any) -> Tuple[float, Tuple[str, ...]]:
    """Decoupled weight decay, and the BN whose gamma or beta it reaches, trainable or not."""
    owners, variables = [], []
    for handle in survey.handles:
        for variable in handle.vectors()[2:]:
            if handle.kind == "keras" and variable is not None:
                owners.append(handle.path)
                variables.append(variable)
    decay, reached = survey.engine.weight_decay_of(optimizer, variables)
    paths = [owner for owner, here in zip(owners, reached) if here]
    return decay, tuple(dict.fromkeys(paths))
