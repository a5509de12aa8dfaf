"""`ScheduleState`: all that changes while a schedule runs, and how phases change it."""

from __future__ import annotations

from typing import Optional, Sequence

from keras_bnguard.backends.optimizers.further import FurtherOptimizers
from keras_bnguard.backends.values.kept_random_states import (
    read_random_states,
    write_random_states,
)
from keras_bnguard.errors import ScheduleError
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.phases.best_weights import BestWeights
from keras_bnguard.phases.cursor import PhaseCursor
from keras_bnguard.phases.phase import Phase
from keras_bnguard.phases.plan import Plan
from keras_bnguard.phases.resuming.changes import Adapted, shown
from keras_bnguard.phases.resuming.checkpoint import LearningRateState, SavedState
from keras_bnguard.phases.transition import Transition
from keras_bnguard.phases.warmup import Warmup
from keras_bnguard.records import OnFailure


class ScheduleState:
    """Where a schedule is, what it keeps of its phase, and the model it runs on.

    Args:
        snapshot: the model, built and compiled.
        plan: the phases resolved against the model.
        pretrained: paths of BN with trained statistics at the start of training.

    Attributes:
        plan: as given.
        cursor: the place in the schedule.
        best: weights of the best epoch of the phase.
        warmup: the warm-up of the phase.
        transition: what puts phases into effect on the model.
    """

    def __init__(
        self,
        snapshot: ModelSnapshot,
        plan: Plan,
        pretrained: Sequence[str],
        on_failure: OnFailure = OnFailure.RAISE,
    ) -> None:
        self._snapshot = snapshot
        self._pretrained = tuple(pretrained)
        self._schedule_start = 0
        self._learning_rate: Optional[float] = None
        self.plan = plan
        self.cursor = PhaseCursor()
        self.best = BestWeights(snapshot)
        self.warmup = Warmup(snapshot)
        self.transition = Transition(snapshot, on_failure)

    @property
    def phase(self) -> Phase:
        """The phase under way."""
        return self.plan[self.cursor.phase].phase

    @property
    def is_last(self) -> bool:
        """Whether no phase follows the one under way."""
        return self.cursor.phase + 1 == len(self.plan)

    @property
    def next_is_due(self) -> bool:
        """Whether the next epoch begins another phase."""
        return self.cursor.over and not self.is_last

    @property
    def ended(self) -> bool:
        """Whether the last phase is over."""
        return self.cursor.over and self.is_last

    def enter(self, index: int, *, inside: bool, start: Optional[int] = None) -> str:
        """Begin a phase.

        Args:
            index: of the phase.
            inside: training is under way.
            start: the optimizer's iteration count when the phase began, None where that is now.

        Returns:
            One line for the user.
        """
        planned = self.plan[index]
        entered = self.transition.apply(
            planned,
            warmup_target=self.warmup.target,
            schedule_start=self._schedule_start,
            start=start,
            inside=inside,
        )
        self.cursor.enter(index)
        self._schedule_start = entered.schedule_start
        self._learning_rate = entered.learning_rate
        self.best.take(())
        if planned.phase.warmup:
            self.warmup.begin(entered.start, entered.learning_rate)
        else:
            self.warmup.begin(0, None)
        return entered.describe(planned)

    def move_to(self, cursor: PhaseCursor) -> None:
        """Be at this place of the phase that was entered."""
        self.cursor = cursor.copy()

    def capture(self, epoch: int) -> SavedState:
        """What is needed to go on after an epoch."""
        backend, model = self._snapshot.backend, self._snapshot.model
        return SavedState(
            epoch=epoch,
            cursor=self.cursor,
            learning_rate=LearningRateState(
                value=backend.optimizer.learning_rate(model),
                warmup_start=self.warmup.start,
                warmup_target=self.warmup.target,
                schedule_start=self._schedule_start,
            ),
            schedule=tuple(shown(planned.phase) for planned in self.plan),
            trains=self.plan[self.cursor.phase].trains,
            pretrained=self._pretrained,
            optimizer=backend.optimizer.state(model),
            random=[backend.values.to_numpy(v) for v in backend.values.random_variables(model)],
            best=self.best.arrays,
            generators=read_random_states(backend),
            further=FurtherOptimizers(backend, model).state(),
        )

    def restore(self, adapted: Adapted) -> None:
        """Be in a saved state of the phase that was entered; the weights are the user's to load.

        Raises:
            ScheduleError: the optimizer state is that of another optimizer or model.
        """
        backend, model = self._snapshot.backend, self._snapshot.model
        saved, new = adapted.saved, adapted.new_learning_rate
        self.move_to(saved.cursor)
        self.best.take(saved.best)
        previous = saved.learning_rate
        rising = previous.warmup_target is not None
        target = self._learning_rate if new and rising else previous.warmup_target
        self.warmup.begin(previous.warmup_start, target)
        self._schedule_start = previous.schedule_start
        if not backend.optimizer.load_state(model, saved.optimizer):
            raise ScheduleError(
                f"the optimizer state after epoch {saved.epoch + 1} does not fit this model's "
                "optimizer. Compile as the run was started, or remove the state folder."
            )
        further = FurtherOptimizers(backend, model)
        if not further.load_state(saved.further, learning_rates=not new):
            raise ScheduleError(
                f"the state after epoch {saved.epoch + 1} is of the optimizers "
                f"{', '.join(saved.further) or 'of compile() alone'}, and does not fit those of "
                f"this model: {', '.join(further.names) or 'that of compile() alone'}. Compile as "
                "the run was started, or remove the state folder."
            )
        seeds = backend.values.random_variables(model)
        if [tuple(v.shape) for v in seeds] == [value.shape for value in saved.random]:
            for variable, value in zip(seeds, saved.random):
                variable.assign(value)
        write_random_states(backend, saved.generators)
        learning_rate = self._learning_rate if new else previous.value
        if learning_rate is not None:
            backend.optimizer.set_learning_rate(model, learning_rate)
