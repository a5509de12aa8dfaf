"""The only door through which this package changes a user's model."""

from __future__ import annotations

from typing import Any, Mapping

from keras_bnguard.inventory import Survey


def put_flags_into_effect(survey: Survey, wanted: Mapping[int, bool]) -> str:
    """Make flags that were changed after `compile()` count from the next step on.

    Sets every layer's own flag, makes an optimizer for the variables that train now (slots
    and iteration count of those that go on are carried), tells Keras that these are the
    compiled flags, and makes a new train function. Loss, metrics and History stay.

    Args:
        survey: the model.
        wanted: id(layer) -> flag; layers that are not named keep theirs.

    Returns:
        One line for the report.
    """
    engine, model = survey.engine, survey.model
    layers = [model, *(layer for _, layer in survey.layers)]
    for layer in layers:
        flag = wanted.get(id(layer))
        if flag is not None:
            engine.set_own_flag(layer, flag)
    carried, fresh = engine.renew_optimizer(model)
    engine.remember_compiled_flags(model)
    engine.rebuild_train_function(model)
    return (
        f"flags put into effect: new train function, optimizer state of {carried} variables "
        f"carried, {fresh} start fresh"
    )


def set_flags(model: Any, engine: Any, wanted: Mapping[int, bool], layers: Any) -> None:
    """Set own flags only, without any effect on a step that is compiled already."""
    for layer in layers:
        flag = wanted.get(id(layer))
        if flag is not None:
            engine.set_own_flag(layer, flag)
