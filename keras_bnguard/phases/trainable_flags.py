"""The only door through which this package changes a user's model."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Tuple

from keras_bnguard.model.snapshot import ModelSnapshot


def put_flags_into_effect(snapshot: ModelSnapshot, wanted: Mapping[int, bool]) -> str:
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
    backend, model = snapshot.backend, snapshot.model
    layers = [model, *(layer for _, layer in snapshot.layers)]
    for layer in layers:
        flag = wanted.get(id(layer))
        if flag is not None:
            backend.flags.set_own(layer, flag)
    carried, fresh = backend.optimizer.renew(model)
    backend.flags.remember_compiled(model)
    backend.step.rebuild_train_function(model)
    return (
        f"flags put into effect: new train function, optimizer state of {carried} variables "
        f"carried, {fresh} start fresh"
    )


def enter_flags(snapshot: ModelSnapshot, flags: Mapping[str, bool]) -> None:
    """Set the own flag of every layer that is named by path; containers do not pass theirs on.

    Raises:
        RuntimeError: a flag is not what was asked for afterwards.
    """
    backend = snapshot.backend
    backend.values.sync(snapshot.model)
    backend.flags.set_own(snapshot.model, True)
    for path, layer in snapshot.layers:
        if path in flags:
            backend.flags.set_own(layer, flags[path])
    wrong = [p for p, layer in snapshot.layers if p in flags and layer.trainable != flags[p]]
    if wrong:
        raise RuntimeError(f"Keras did not take the flags of {', '.join(wrong[:5])}")


def enter_step(
    snapshot: ModelSnapshot,
    *,
    carry: bool,
    schedule: Any,
    learning_rate: Any,
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
    backend, model = snapshot.backend, snapshot.model
    if learning_rate is not None and backend.optimizer.rate_is_schedule(model):
        schedule = (
            learning_rate  # Keras lets nobody assign a rate there, so it is made with this one.
        )
    carried, fresh = backend.optimizer.renew(model, carry=carry, schedule=schedule)
    if learning_rate is not None:
        backend.optimizer.set_learning_rate(model, learning_rate)
    backend.optimizer.put_rate_factors(model, list(_by_variable(snapshot, factors)))
    backend.flags.remember_compiled(model)
    if inside:
        backend.step.rebuild_train_function(model)
    else:
        backend.step.drop_train_function(model)
    return f"optimizer state of {carried} variables carried, {fresh} start fresh"


def _by_variable(
    snapshot: ModelSnapshot, factors: Mapping[str, float]
) -> Iterator[Tuple[Any, float]]:
    for path, layer in [("", snapshot.model), *snapshot.layers]:
        if path in factors:
            for variable in snapshot.backend.graph.own_variables(layer):
                yield variable, factors[path]


def finish_factors(snapshot: ModelSnapshot) -> None:
    """One rate for all again, and a train function that knows of no other."""
    if snapshot.backend.optimizer.take_rate_factors(snapshot.model):
        snapshot.backend.step.drop_train_function(snapshot.model)


def finish_phase(snapshot: ModelSnapshot) -> None:
    """What Keras does when a `fit` ends and the optimizer is to go: averages of `use_ema`
    become the weights."""
    snapshot.backend.optimizer.finish_averages(snapshot.model)
