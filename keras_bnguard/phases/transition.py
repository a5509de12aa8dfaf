"""Put a phase into effect on a model: flags, forced inference, optimizer, train function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, Mapping, Optional, Set, Tuple

from keras_bnguard.backends.optimizers.further import FurtherOptimizers
from keras_bnguard.backends.patches.model_hooks import announce_phase
from keras_bnguard.inference.contexts import graph_leaks
from keras_bnguard.inference.force_inference import force_inference
from keras_bnguard.model.kept import find_kept, forget, kept_with
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.phases.fields import OptimizerState
from keras_bnguard.phases.plan import Plan, PlannedPhase
from keras_bnguard.records import OnFailure
from keras_bnguard.records.ids import TrainableFlags, layer_id


class _PhaseForcing:
    """What the present phase forces; kept with the model and not with the scheduler.

    An exception inside `fit` runs no hook, so the next scheduled `fit` releases it, which may be
    that of another scheduler.
    """

    def __init__(self) -> None:
        self._handle: Optional[force_inference] = None

    def force(self, model: Any, layers: Set[int], on_failure: OnFailure) -> None:
        """Force the layers with these ids; if empty, those that run in inference mode anyway."""
        chosen = (lambda layer: id(layer) in layers) if layers else None
        self._handle = force_inference(model, layers=chosen, on_failure=on_failure)

    def release(self) -> None:
        """Release them; no-op where nothing is forced."""
        if self._handle is not None:
            self._handle.release()
            self._handle = None


@dataclass(frozen=True)
class Entered:
    """What a transition did.

    Attributes:
        start: the optimizer's iteration count when the phase began.
        schedule_start: that count when the `LearningRateSchedule` in use began.
        learning_rate: the learning rate now, None under a schedule.
        carried: how many variables kept their optimizer state.
        fresh: how many variables start without one.
    """

    start: int
    schedule_start: int
    learning_rate: Optional[float]
    carried: int
    fresh: int

    def describe(self, planned: PlannedPhase) -> str:
        """One line for the user.

        Args:
            planned: the phase that began.
        """
        shown = planned.show_learning_rate(self.learning_rate, "schedule")
        return (
            f"phase {planned.phase.name!r} begins, {planned.parameters:,} parameters train, "
            f"{planned.inference} BN in inference mode, learning rate {shown}; optimizer state of "
            f"{self.carried} variables carried, {self.fresh} start fresh"
        )


class Transition:
    """Puts phases into effect on one model, one method a step.

    Args:
        snapshot: the model, built and compiled.
        on_failure: what happens where a BN that is forced does not run in inference mode.
            Defaults to an error.
    """

    def __init__(self, snapshot: ModelSnapshot, on_failure: OnFailure = OnFailure.RAISE) -> None:
        self._snapshot = snapshot
        self._on_failure = on_failure

    def apply(
        self,
        planned: PlannedPhase,
        *,
        warmup_target: Optional[float],
        schedule_start: int,
        start: Optional[int],
        inside: bool,
    ) -> Entered:
        """Enter a phase. The order matters: an optimizer is made for the weights that train.

        Args:
            planned: the phase.
            warmup_target: what the learning rate of the phase before was still rising to, None
                where it had arrived.
            schedule_start: the iteration count at which the schedule in use began.
            start: the iteration count at which the phase began, None where that is now.
            inside: training is under way, so the new train function has to exist at once.
        """
        backend, model = self._snapshot.backend, self._snapshot.model
        phase, change = planned.phase, planned.phase.learning_rate_change
        carry = phase.optimizer_state is not OptimizerState.RESET
        learning_rate = change.at_start(warmup_target or backend.optimizer.learning_rate_now(model))
        if start is None:
            start = backend.optimizer.iterations(model) if carry else 0
        schedule = change.schedule
        if schedule is not None:
            schedule = backend.optimizer.delayed_schedule(schedule, start)
            schedule_start = start
        elif learning_rate is None:
            learning_rate = warmup_target
        self.set_flags(planned.flags)
        self.force_inference(planned.forced)
        carried, fresh = self.make_optimizer(carry, learning_rate, schedule)
        self.set_learning_rate(learning_rate, planned.factors)
        FurtherOptimizers(backend, model).set_learning_rates(change.by_optimizer)
        self.make_train_function(inside)
        announce_phase(backend, model, phase.name)
        return Entered(
            start, schedule_start, backend.optimizer.learning_rate(model), carried, fresh
        )

    def set_flags(self, flags: Mapping[str, bool]) -> None:
        """Set the own `trainable` of every layer that is named by path.

        Raises:
            RuntimeError: a flag is not what was set, read back.
        """
        backend, layers = self._snapshot.backend, self._snapshot.layers
        backend.values.sync(self._snapshot.model)
        backend.flags.set_own(self._snapshot.model, True)
        for path, layer in layers:
            if path in flags:
                backend.flags.set_own(layer, flags[path])
        wrong = [p for p, layer in layers if p in flags and layer.trainable != flags[p]]
        if wrong:
            raise RuntimeError(f"Keras did not take the flags of {', '.join(wrong[:5])}")

    def build_further_optimizers(self, plan: Plan) -> None:
        """Build the optimizers of the model's own training step for what any phase trains.

        The flags are those of the last phase afterwards.

        Args:
            plan: all phases.
        """
        model = self._snapshot.model
        further = FurtherOptimizers(self._snapshot.backend, model)
        if not further.names:
            return
        variables: Dict[int, Any] = {}
        for planned in plan:
            self.set_flags(planned.flags)
            variables.update((id(v), v) for v in model.trainable_variables)
        further.build(list(variables.values()))

    def force_inference(self, paths: Tuple[str, ...]) -> None:
        """Force these BN into inference mode, and no longer those of the phase before; what the
        user forces stays.

        Where Keras lets a `training=False` of the graph reach layers called later, the step is
        changed also without a BN to force: it keeps that value from the BN that should train.
        """
        self._release()
        layers = {id(handle.layer) for handle in self._snapshot.handles if handle.path in paths}
        if layers or graph_leaks(self._snapshot):
            model = self._snapshot.model
            kept_with(model, _PhaseForcing).force(model, layers, self._on_failure)

    def make_optimizer(
        self, carry: bool, learning_rate: Optional[float], schedule: Optional[Any]
    ) -> Tuple[int, int]:
        """Make an optimizer for the weights that train now, from the config of the old one.

        Args:
            carry: keep state variables and iteration count of the weights that go on training.
            learning_rate: a number, or None to keep what is.
            schedule: a `LearningRateSchedule`, or None.

        Returns:
            How many variables kept their state, and how many start fresh.
        """
        backend, model = self._snapshot.backend, self._snapshot.model
        if learning_rate is not None and backend.optimizer.learning_rate_is_schedule(model):
            # Keras refuses to assign over a schedule, so the optimizer is made with the number.
            schedule = learning_rate
        carried, fresh = backend.optimizer.renew(model, carry=carry, schedule=schedule)
        return int(carried), int(fresh)

    def set_learning_rate(
        self, learning_rate: Optional[float], factors: Mapping[str, float]
    ) -> None:
        """Assign the learning rate, and the factors of `layer_decay` for single variables.

        Args:
            learning_rate: a number, or None to keep what is.
            factors: path -> factor for the weights a layer owns; "" is the model itself.
        """
        backend, model = self._snapshot.backend, self._snapshot.model
        if learning_rate is not None:
            backend.optimizer.set_learning_rate(model, learning_rate)
        backend.optimizer.put_learning_rate_factors(model, list(self._by_variable(factors)))

    def make_train_function(self, inside: bool) -> None:
        """Have the next step traced with the flags as they are now.

        Args:
            inside: training is under way, so the new train function has to exist at once.
        """
        backend, model = self._snapshot.backend, self._snapshot.model
        backend.flags.remember_compiled(model)
        if inside:
            backend.step.rebuild_train_function(model)
        else:
            backend.step.drop_train_function(model)

    def finish_averages(self) -> None:
        """What Keras does when `fit` ends: averages of `use_ema` become the weights. Needed
        before an optimizer that starts again."""
        self._snapshot.backend.optimizer.finish_averages(self._snapshot.model)

    def undo(self) -> None:
        """Take off what must not outlast `fit`: forced inference and the factors of
        `layer_decay`. Flags and optimizer stay."""
        self._release()
        if self._snapshot.backend.optimizer.remove_learning_rate_factors(self._snapshot.model):
            self._snapshot.backend.step.drop_train_function(self._snapshot.model)

    def _release(self) -> None:
        forcing = find_kept(self._snapshot.model, _PhaseForcing)
        if forcing is not None:
            forcing.release()
            forget(self._snapshot.model, _PhaseForcing)

    def _by_variable(self, factors: Mapping[str, float]) -> Iterator[Tuple[Any, float]]:
        for path, layer in [("", self._snapshot.model), *self._snapshot.layers]:
            if path in factors:
                for variable in self._snapshot.backend.graph.own_variables(layer):
                    yield variable, factors[path]


def put_flags_into_effect(snapshot: ModelSnapshot, wanted: TrainableFlags) -> str:
    """Make `trainable` changes since `compile()` count from the next step on.

    Sets every layer's own flag, makes an optimizer for the variables that train now (with the
    state of those that go on), marks these flags as the compiled ones, and makes a new
    train function. Loss, metrics and History stay.

    Args:
        snapshot: the model.
        wanted: id(layer) -> flag; layers that are not named keep theirs.

    Returns:
        One line for the report.
    """
    backend, model = snapshot.backend, snapshot.model
    layers = [model, *(layer for _, layer in snapshot.layers)]
    for layer in layers:
        flag = wanted.get(layer_id(layer))
        if flag is not None:
            backend.flags.set_own(layer, flag)
    carried, fresh = backend.optimizer.renew(model)
    backend.flags.remember_compiled(model)
    backend.step.rebuild_train_function(model)
    return (
        f"flags put into effect: new train function, optimizer state of {carried} variables "
        f"carried, {fresh} start fresh"
    )
