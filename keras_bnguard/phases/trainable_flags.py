"""The only door through which this package changes a user's model."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Tuple

from keras_bnguard.model.snapshot import Survey


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


def enter_flags(survey: Survey, flags: Mapping[str, bool]) -> None:
    """Set the own flag of every layer that is named by path; containers do not pass theirs on.

    Raises:
        RuntimeError: a flag is not what was asked for afterwards.
    """
    engine = survey.engine
    engine.sync(survey.model)
    engine.set_own_flag(survey.model, True)
    for path, layer in survey.layers:
        if path in flags:
            engine.set_own_flag(layer, flags[path])
    wrong = [p for p, layer in survey.layers if p in flags and layer.trainable != flags[p]]
    if wrong:
        raise RuntimeError(f"Keras did not take the flags of {', '.join(wrong[:5])}")


def enter_step(
    survey: Survey,
    *,
    carry: bool,
    schedule: Any,
    rate: Any,
    inside: bool,
    factors: Mapping[str, float],
) -> str:
    """Make an optimizer and a train function for the flags as they are now.

    Args:
        carry: keep slots and iteration count of the variables that go on training.
        schedule: a LearningRateSchedule for the new optimizer, or None.
        rate: a float learning rate, or None to keep what is.
        inside: training is under way, so the new train function has to exist at once.
        factors: path -> factor on the rate of the weights a layer owns; "" is the model.

    Returns:
        One line for the report.
    """
    engine, model = survey.engine, survey.model
    if rate is not None and engine.rate_is_schedule(model):
        schedule = rate  # Keras lets nobody assign a rate there, so it is made with this one.
    carried, fresh = engine.renew_optimizer(model, carry=carry, schedule=schedule)
    if rate is not None:
        engine.set_rate(model, rate)
    engine.put_rate_factors(model, list(_by_variable(survey, factors)))
    engine.remember_compiled_flags(model)
    if inside:
        engine.rebuild_train_function(model)
    else:
        engine.drop_train_function(model)
    return f"optimizer state of {carried} variables carried, {fresh} start fresh"


def _by_variable(survey: Survey, factors: Mapping[str, float]) -> Iterator[Tuple[Any, float]]:
    for path, layer in [("", survey.model), *survey.layers]:
        if path in factors:
            for variable in survey.engine.own_variables(layer):
                yield variable, factors[path]


def finish_factors(survey: Survey) -> None:
    """One rate for all again, and a train function that knows of no other."""
    if survey.engine.take_rate_factors(survey.model):
        survey.engine.drop_train_function(survey.model)


def finish_phase(survey: Survey) -> None:
    """What Keras does when a `fit` ends and the optimizer is to go: averages of `use_ema`
    become the weights."""
    survey.engine.finish_averages(survey.model)
