"""`Resumption`: put a model and its schedule where a `fit` goes on."""

from __future__ import annotations

from typing import Callable, FrozenSet, List, Optional, Sequence

from keras_bnguard.backends.call_stack import warn_user
from keras_bnguard.backends.values.keras_backup import Backup
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.phases.phase import Phase
from keras_bnguard.phases.plan import Plan
from keras_bnguard.phases.resuming.changes import Adapted, adapt
from keras_bnguard.phases.resuming.checkpoint import SavedState, StateFile
from keras_bnguard.phases.resuming.point import KeptOptimizer, ResumePoint
from keras_bnguard.phases.resuming.pretrained import is_known, pretrained_at_start, remember
from keras_bnguard.phases.state import ScheduleState


class Resumption:
    """Finds where a `fit` goes on, and puts model and schedule there.

    Args:
        snapshot: the model, before any phase was entered.
        phases: checked, each with its own `optimizer_state`.
        file: where the state is kept, None for nowhere.
        backup: where `fit` will begin.
        of_process: makes of a saved state that of this one of several processes. Defaults to
            none other.

    Attributes:
        point: where the `fit` goes on.
        messages: lines for the user.

    Raises:
        ScheduleError: the state is broken, or that of another schedule; or it is missing, and
            the place cannot be known without it.
    """

    def __init__(
        self,
        snapshot: ModelSnapshot,
        phases: Sequence[Phase],
        file: Optional[StateFile],
        backup: Backup,
        of_process: Optional[Callable[[SavedState], SavedState]] = None,
    ) -> None:
        self._of_process = of_process
        self._snapshot, self._phases, self._file = snapshot, phases, file
        self._iterations = 0
        self._adapted: Optional[Adapted] = None
        self.messages: List[str] = []
        self.point = self._find(backup)

    def pretrained(self) -> FrozenSet[str]:
        """Paths of the BN that were pretrained when the run began; kept with the model."""
        saved = None if self.point.saved is None else self.point.saved.pretrained
        goes_on = bool(self.point.epoch)
        if saved is None and goes_on and self._file is not None:
            saved = self._file.pretrained(self._names)
        if saved is None and goes_on and not is_known(self._snapshot):
            self.messages.append(
                "which BN were pretrained when the run began was not kept, so all that have "
                "trained statistics now count as pretrained; pass state=folder to keep it"
            )
        found = pretrained_at_start(self._snapshot, goes_on=goes_on, saved=saved)
        remember(self._snapshot, found)
        return found

    def adapt(self, plan: Plan) -> None:
        """Compare the schedule with the one the state was written by, and warn of each change.

        Raises:
            ScheduleError: a change cannot be taken; see `changes.RULES`.
        """
        self._adapted = None if self.point.saved is None else adapt(self.point.saved, plan)
        for change in () if self._adapted is None else self._adapted.changes:
            warn_user(change.describe())

    def enter(self, state: ScheduleState, *, inside: bool) -> None:
        """Be in the state the run had before the first epoch.

        Args:
            state: of the schedule; nothing was entered yet.
            inside: training is under way.
        """
        point, adapted = self.point, self._adapted
        kept = None
        if point.epoch and adapted is None:
            kept = KeptOptimizer(self._snapshot.backend, self._snapshot.model)
        for index in range(point.cursor.phase + 1):
            # Through all of them: learning rates build on one another, as does the state of some
            # optimizers.
            start = point.start_of(index, 0 if kept is None else kept.steps)
            state.enter(index, inside=inside and index == point.cursor.phase, start=start)
        state.move_to(point.cursor)
        if adapted is not None:
            state.restore(adapted)
        goes_on = kept is not None and kept.put_back()
        self._iterations = self._count()
        if point.epoch:
            known = adapted is not None or goes_on
            self.messages.append(
                f"goes on at epoch {point.epoch + 1} after {state.cursor.epochs} epochs of phase "
                f"{state.phase.name!r}" + ("" if known else "; its optimizer state was not kept")
            )

    def first_epoch(self, epoch: int, state: ScheduleState) -> None:
        """Compare what Keras restored since `enter` with what was found.

        Args:
            epoch: the first one of this `fit`.
            state: of the schedule.
        """
        point = self.point
        if epoch != point.epoch:
            followed = point.midway and epoch == point.epoch + 1
            if not (followed and self._count_unseen_epoch(epoch, state)):
                self.point = self._find(Backup(epoch, False))
                self.adapt(state.plan)
                self.enter(state, inside=True)
        elif self._adapted is not None and not point.midway:
            if self._count() > self._iterations:
                warn_user(
                    f"the backup holds weights that are newer than epoch {epoch + 1}, at which it "
                    "begins, as after a kill between its two files. That epoch is trained again, "
                    "on top of itself."
                )
            else:
                state.restore(self._adapted)
        self._remove_later_states(epoch)

    @property
    def _names(self) -> List[str]:
        return [phase.name for phase in self._phases]

    def _find(self, backup: Backup) -> ResumePoint:
        saved: Optional[SavedState] = None
        missing = ""
        if self._file is not None and backup.epoch:
            saved = self._file.read(backup.epoch - 1, self._names)
            if saved is not None and self._of_process is not None:
                saved = self._of_process(saved)
            missing = f" {self._file.folder} has {self._describe_states()}."
        point = ResumePoint.find(self._phases, backup, saved, missing)
        if missing and saved is None:
            warn_user(
                f"the state after epoch {backup.epoch} is missing:{missing} The phase was "
                "found by counting epochs; optimizer state, warm-up and random states of that "
                "moment are not known."
            )
        return point

    def _describe_states(self) -> str:
        epochs = () if self._file is None else self._file.epochs()
        after = ", ".join(str(epoch + 1) for epoch in epochs)
        return f"those after epochs {after}" if epochs else "none"

    def _count_unseen_epoch(self, epoch: int, state: ScheduleState) -> bool:
        """Count an epoch that was backed up at its last batch and killed before its end hooks.

        Returns:
            Whether that is so: no state was kept after it.
        """
        if self._file is not None and self._file.has(epoch - 1):
            return False
        state.cursor.epoch_done(state.phase, {}, judged=False)
        return True

    def _remove_later_states(self, epoch: int) -> None:
        """Remove the states of an earlier run that got further, before they can be taken for
        those of this one."""
        if self._file is None:
            return
        if not epoch:
            self._file.clear()
            return
        removed = self._file.remove_from(epoch)
        # One alone is that of a run that was killed before Keras wrote its backup.
        if removed and removed != (epoch,):
            warn_user(
                f"training begins again at epoch {epoch + 1}: the states after epochs "
                f"{', '.join(str(each + 1) for each in removed)} in {self._file.folder} are those "
                "of an earlier run, and are removed."
            )

    def _count(self) -> int:
        return int(self._snapshot.backend.optimizer.iterations(self._snapshot.model))
