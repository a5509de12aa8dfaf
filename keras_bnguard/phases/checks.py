"""What must hold before a schedule starts: of the model, and of the arguments of `fit`."""

from __future__ import annotations

from typing import Any, Collection, Optional, Sequence

from keras_bnguard.backends.call_stack import warn_user
from keras_bnguard.backends.optimizers.further import COMPILED, FurtherOptimizers
from keras_bnguard.backends.patches.fit_scope import FitArguments
from keras_bnguard.backends.registry import backend_for
from keras_bnguard.errors import ScheduleError
from keras_bnguard.inference.steps import refuse_graph_mode
from keras_bnguard.model.snapshot import ModelSnapshot, take_snapshot
from keras_bnguard.phases.fields import OptimizerState
from keras_bnguard.phases.phase import Phase
from keras_bnguard.phases.plan import PlannedPhase


def ready_model(model: Any) -> ModelSnapshot:
    """The snapshot of a model that can be trained at once.

    Raises:
        ScheduleError: it is not compiled or not built, or its optimizer has no learning rate of
            its own.
        UnsupportedModelError: TensorFlow runs in graph mode.
    """
    refuse_graph_mode(backend_for(model))
    if getattr(model, "optimizer", None) is None:
        raise ScheduleError(
            "PhaseScheduler needs a compiled model: call model.compile(...) before fit."
        )
    snapshot = built_model(model)
    snapshot.backend.optimizer.check_one_learning_rate(model)
    return snapshot


def built_model(model: Any) -> ModelSnapshot:
    """The snapshot of a model that has its weights.

    Raises:
        ScheduleError: it is not built.
    """
    snapshot = take_snapshot(model)
    if not snapshot.inventory.built or any(not n.built for n in snapshot.inventory.norms):
        raise ScheduleError(
            "PhaseScheduler needs a built model: call it on one batch, or model.build(...), first."
        )
    return snapshot


def check_fit(snapshot: ModelSnapshot, phases: Sequence[Phase], arguments: FitArguments) -> None:
    """Find before the first step what would fail later.

    Args:
        snapshot: a compiled model.
        phases: with their own `optimizer_state`.
        arguments: of the running `fit`.

    Raises:
        ScheduleError: a phase monitors a validation value and there is no validation data; its
            learning rate does not go with that of the phases before, or does not reach the
            optimizers of the model; an optimizer cannot be made from the config of the one in
            use.
    """
    backend, model = snapshot.backend, snapshot.model
    for phase in phases:
        if phase.monitor and phase.monitor.startswith("val_") and not arguments.has_validation:
            raise ScheduleError(
                f"phase {phase.name!r} ends by {phase.monitor!r}, but fit has no validation data. "
                "Pass validation_data= or validation_split= to fit, or monitor a training value."
            )
    check_optimizers(phases, FurtherOptimizers(backend, model))
    warn_without_validation(phases, arguments)
    schedules = [phase.learning_rate_change.schedule for phase in phases]
    given = [schedule for schedule in schedules if schedule is not None]
    scheduled = bool(backend.optimizer.learning_rate_is_schedule(model))
    check_learning_rates(
        phases,
        scheduled=scheduled,
        # A schedule that a phase of an earlier fit left on the optimizer may be replaced.
        replaceable=not scheduled or bool(backend.optimizer.has_learning_rate_of(model, given)),
        learning_rate=backend.optimizer.learning_rate(model),
    )
    resets = any(phase.optimizer_state is OptimizerState.RESET for phase in phases)
    backend.optimizer.check_renewable(model, given, resets)


def check_optimizers(phases: Sequence[Phase], further: FurtherOptimizers) -> None:
    """Check that the learning rates of the phases reach the optimizers that train the model.

    Args:
        phases: of the schedule.
        further: the optimizers besides the one of `compile()`.

    Raises:
        ScheduleError: the model has optimizers of its own, and a phase sets one number, a
            warm-up or a `layer_decay`, which they would not get; a phase names an optimizer that
            is not there, or leaves one out.
    """
    names = further.names
    wanted = ", ".join(f"{name!r}: 1e-4" for name in names)
    for phase in phases:
        change = phase.learning_rate_change
        named = set(change.by_optimizer)
        plain_setting = change.sets_number or change.schedule is not None
        if (names or named) and (phase.warmup or phase.layer_decay != 1.0):
            raise ScheduleError(
                f"phase {phase.name!r}: warmup and layer_decay act on the optimizer of compile() "
                "alone, and this phase or its model has others. Leave them out."
            )
        if names and plain_setting:
            raise ScheduleError(
                f"phase {phase.name!r} sets one learning rate, and the model trains with "
                f"optimizers of its own, which it would not reach: {', '.join(names)}. Give each "
                f"its own: learning_rate={{{wanted}}}."
            )
        unknown = sorted(named - {COMPILED, *names})
        missing = sorted(set(names) - named) if named else []
        if unknown or missing:
            raise ScheduleError(
                f"phase {phase.name!r}: learning_rate names {', '.join(sorted(named))}; the "
                f"optimizers of the model are {', '.join([*names, COMPILED])}. Name each, except "
                f"{COMPILED!r} where the training step does not use it."
            )
        scheduled = sorted(named & set(further.scheduled()))
        if scheduled:
            raise ScheduleError(
                f"phase {phase.name!r} sets the learning rate of {', '.join(scheduled)}, which "
                "was made with a LearningRateSchedule or a function, which would override it. "
                "Make it with a number."
            )


def warn_without_validation(phases: Sequence[Phase], arguments: FitArguments) -> None:
    """Warn where a phase monitors validation, and `validation_freq` lets none happen."""
    for phase in phases:
        validates = not phase.monitor or not phase.monitor.startswith("val_")
        if not validates and not arguments.ever_validates:
            warn_user(
                f"phase {phase.name!r} ends by {phase.monitor!r}, but with validation_freq="
                f"{arguments.validation_freq!r} no epoch from {arguments.initial_epoch + 1} to "
                f"{arguments.epochs or 0} is validated, so the condition is never judged. "
                "Pass a smaller validation_freq, or more epochs."
            )


def check_learning_rates(
    phases: Sequence[Phase],
    *,
    scheduled: bool,
    replaceable: bool,
    learning_rate: Optional[float],
) -> None:
    """Check the learning rates of the phases against that of `compile` and each other.

    Args:
        phases: of the schedule.
        scheduled: the model was compiled with a `LearningRateSchedule` or a function.
        replaceable: a phase may put a number in the place of that learning rate.
        learning_rate: the compiled one, None where it is no number.

    Raises:
        ScheduleError: a number or a warm-up meets a compiled schedule; a warm-up would rise to
            the schedule of a phase before; a `RelativeRate` has nothing to start from.
    """
    for phase in phases:
        change = phase.learning_rate_change
        if not replaceable and (change.sets_number or phase.warmup):
            raise ScheduleError(
                f"phase {phase.name!r} sets a learning rate, but the model was compiled with a "
                "LearningRateSchedule or a function, which would override it. Compile with a "
                "number, or give each phase a schedule of its own."
            )
        if phase.warmup and scheduled and not change.sets_number:
            raise ScheduleError(
                f"phase {phase.name!r} has a warm-up and no learning rate, and the learning rate "
                "it would rise to is a LearningRateSchedule of a phase before. Give it a number."
            )
        scheduled = change.uses_schedule(scheduled)
    if phases[0].learning_rate_change.needs_previous and learning_rate is None:
        raise ScheduleError(
            f"phase {phases[0].name!r}: {phases[0].learning_rate!r} needs a learning rate to start "
            "from, and the compiled one is no number. Give the phase a number."
        )


def warn_of_unreached_phases(plan: Sequence[PlannedPhase], epochs: Optional[int]) -> bool:
    """Warn where plain epoch counts put a phase behind the end of `fit`; return whether so."""
    done = 0
    for i, planned in enumerate(plan[:-1]):
        if planned.phase.condition is not None or epochs is None:
            return False
        done += planned.phase.epochs or 0
        if done >= epochs:
            names = [each.phase.name for each in plan[i + 1 :]]
            last = sum(each.phase.epochs or 0 for each in plan[i + 1 : -1])
            warn_user(
                f"fit ends after {epochs} epochs, before phase {names[0]!r} begins at epoch "
                f"{done + 1}. Pass epochs={done + last + 1} or more to fit, so that "
                f"{_named(names)} {'begins' if len(names) == 1 else 'begin'}."
            )
            return True
    return False


def warn_of_repeated_phases(plan: Sequence[PlannedPhase]) -> None:
    """Warn of each phase that trains just what the phase before did, in the same way."""
    for before, planned in zip(plan, plan[1:]):
        if planned.repeats(before):
            warn_user(
                f"phase {planned.phase.name!r} trains just what phase {before.phase.name!r} does: "
                "the same layers and BN, at the same learning rate. Change its train or its "
                "learning_rate, or take it out."
            )


def warn_of_phases_that_never_began(plan: Sequence[PlannedPhase], under_way: int) -> None:
    """Warn when training ends before the last phase has begun.

    Args:
        plan: of the schedule.
        under_way: index of the phase in which training ends.
    """
    names = [planned.phase.name for planned in plan[under_way + 1 :]]
    if names:
        phase = plan[under_way].phase
        warn_user(
            f"training ended in phase {phase.name!r} ({phase.describe_end()}), so {_named(names)} "
            "never began. Pass more epochs to fit, or take out what stopped it."
        )


def _named(names: Sequence[str]) -> str:
    listed = ", ".join(map(repr, names))
    return f"phase {listed}" if len(names) == 1 else f"phases {listed}"


def warn_of_missing_metrics(phases: Sequence[Phase], logs: Collection[str]) -> None:
    """Warn of phases to come that monitor what the first epoch did not log."""
    validated = any(key.startswith("val_") for key in logs)
    for phase in phases:
        key = phase.monitor
        if key and key not in logs and (validated or not key.startswith("val_")):
            warn_user(
                f"phase {phase.name!r} will monitor {key!r}, which is not in the logs of the "
                f"first epoch: {', '.join(sorted(logs))}."
            )
