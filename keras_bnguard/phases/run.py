"""One scheduled `fit` of one model: entering phases, leaving them, going on after a kill."""

from __future__ import annotations

import warnings
from typing import Any, List, Mapping, Optional, Tuple

from keras_bnguard.backends.patches.fit_scope import FitArguments
from keras_bnguard.backends.patches.model_hooks import announce_phase
from keras_bnguard.backends.values.keras_backup import Backup
from keras_bnguard.errors import BNGuardWarning, ScheduleError
from keras_bnguard.model.snapshot import ModelSnapshot
from keras_bnguard.phases.checkpoint import SavedState, StateFile, check_same_schedule
from keras_bnguard.phases.cursor import Tracker, counted
from keras_bnguard.phases.forced import force_for_phase, release_phase
from keras_bnguard.phases.phase import Phase, is_rate_schedule
from keras_bnguard.phases.plan import (
    PlannedPhase,
    check_against_fit,
    check_watched,
    make_plan,
    pretrained_norms,
    rate_cell,
    rate_of,
)
from keras_bnguard.phases.resume import KeptOptimizer, backup_of, steps_before
from keras_bnguard.phases.trainable_flags import (
    enter_flags,
    enter_step,
    finish_factors,
    finish_phase,
)


class PhaseRun:
    """Where a `fit` is in its schedule, and what is done to the model about it.

    Args:
        survey: the model, built and compiled. phases: checked ones. arguments: of `fit`.
        file: where the state is kept, None for nowhere. default_state: "carry" or "reset".

    Attributes:
        plan: the phases resolved against the model. rate_before: that of `compile`.
        tracker: the place in the schedule. finished: the schedule had ended before this `fit`
            began. said: lines about what was done, for who prints them.
    """

    def __init__(
        self,
        snapshot: ModelSnapshot,
        phases: Tuple[Phase, ...],
        arguments: FitArguments,
        file: Optional[StateFile],
        default_state: str,
    ) -> None:
        self._snapshot, self._backend, self._model = snapshot, snapshot.backend, snapshot.model
        self.phases = phases
        self._arguments = arguments
        self._file = file
        self._default_state = default_state
        self.tracker = Tracker()
        self.said: List[str] = []
        self._best: List[Any] = []
        self._seen_logs = False
        self._warm_base: Optional[int] = None
        self._written: Optional[Tuple[int, Optional[float]]] = None
        self._saved: Optional[SavedState] = None
        self._final: Optional[Tuple[List[Any], List[Any]]] = None
        # What an exception in an earlier fit left behind says nothing about this one.
        release_phase(self._model)
        finish_factors(snapshot)
        backup = backup_of(arguments)
        self._start = Backup(arguments.initial_epoch, False) if backup is None else backup
        self._saved = self._read(self._start.epoch - 1)
        saved = self._saved
        self.pretrained = saved.pretrained if saved else tuple(sorted(pretrained_norms(snapshot)))
        self.plan: Tuple[PlannedPhase, ...] = make_plan(snapshot, phases, self.pretrained)
        self.rate_before = self._backend.optimizer.learning_rate(self._model)
        given = [phase.learning_rate for phase in phases if is_rate_schedule(phase.learning_rate)]
        check_against_fit(
            self.plan,
            has_validation=arguments.has_validation,
            rate_is_schedule=self._backend.optimizer.rate_is_schedule(self._model),
            rate_is_ours=self._backend.optimizer.has_rate_of(self._model, given),
            learning_rate=self.rate_before,
        )
        resets = any(self._optimizer_state(i) == "reset" for i in range(len(phases)))
        self._backend.optimizer.check_renewable(self._model, given, resets)

    # ------------------------------------------------------------------ begin
    def begin(self) -> None:
        """Enter the phase training begins in, before any other callback begins.

        A `BackupAndRestore` loads an optimizer afterwards: that of the epoch before the one it
        begins with, or, taken midway, that of the epoch itself.
        """
        self._begin_at(self._start.epoch, inside=False)
        if self._start.midway and self.tracker.over and not self._is_last:
            self.enter(self.tracker.phase + 1, inside=False)

    def first_epoch(self, epoch: int) -> None:
        """What was restored since `begin` is compared with what the schedule expects."""
        if epoch != self._start.epoch:
            midway = self._start.midway and epoch == self._start.epoch + 1
            if not (midway and self._skip_unseen_epoch(epoch)):
                self._saved = self._read(epoch - 1)
                self._begin_at(epoch, inside=True)
        elif self._saved is not None and not self._start.midway:
            if self._backend.optimizer.iterations(self._model) > self._steps_saved:
                warnings.warn(
                    f"the backup holds weights that are newer than the epoch {epoch} it says to "
                    "begin with, as after a kill between its two files. That epoch is trained "
                    "again, on top of itself.",
                    BNGuardWarning,
                    stacklevel=2,
                )
            else:
                self._load(self._saved)
        if self.tracker.over and self._is_last:
            # Keras takes a step before it looks whether to stop; what that does is undone.
            self._final = (self._weights(), self._backend.optimizer.state(self._model))
            self._model.stop_training = True

    def _skip_unseen_epoch(self, epoch: int) -> bool:
        """A backup taken at the last batch of an epoch, whose end nobody saw: it counts."""
        if self._file is not None and self._file.has(epoch - 1):
            return False
        self.tracker.epoch_done(self.phases[self.tracker.phase], {}, judged=False)
        return True

    def _begin_at(self, epoch: int, *, inside: bool) -> None:
        """Be in the state the run had before this epoch."""
        saved, backend = self._saved, self._backend
        if saved is None:
            if epoch == 0 and self._file is not None:
                self._file.clear()
            where = "" if self._file is None else f" {self._file.folder} has none."
            tracker = counted(self.phases, epoch, where)
        else:
            tracker = Tracker(**saved.tracker.as_dict())
        kept = None if saved or not epoch else KeptOptimizer(backend, self._model)
        for index in range(tracker.phase + 1):
            # Through all of them: rates build on one another, as do the slots of some optimizers.
            began = None
            if saved is not None:
                began = saved.tracker.scheduled
            elif kept is not None and kept.steps:
                began = steps_before(self.phases, index, epoch, kept.steps, self._optimizer_state)
            self.enter(index, inside=inside and index == tracker.phase, began=began)
        entered, self.tracker = self.tracker, tracker
        if saved is not None:
            self._load(saved)
        else:
            tracker.began, tracker.target = entered.began, entered.target
            tracker.scheduled = entered.scheduled
        goes_on = kept is not None and kept.put_back()
        self._steps_saved = backend.optimizer.iterations(self._model)
        if epoch:
            known = saved is not None or goes_on
            kept_of_it = "" if known else "; nothing was kept of its optimizer"
            self.said.append(
                f"goes on at epoch {epoch} after {tracker.epochs} epochs of phase "
                f"{self.phases[tracker.phase].name!r}{kept_of_it}"
            )

    def _read(self, last: int) -> Optional[SavedState]:
        """The state after an epoch, None where nothing was kept of it."""
        if last < 0 or self._file is None:
            return None
        saved = self._file.after(last)
        if saved is not None:
            check_same_schedule(saved, [phase.name for phase in self.phases], self._file.folder)
        return saved

    def _load(self, saved: SavedState) -> None:
        backend, model = self._backend, self._model
        self._best = saved.best
        if not backend.optimizer.load_state(model, saved.optimizer):
            raise ScheduleError(
                f"the optimizer state after epoch {saved.epoch} does not fit this model's "
                "optimizer. Compile as the run was started, or remove the state folder."
            )
        seeds = backend.values.random_variables(model)
        if [tuple(v.shape) for v in seeds] == [value.shape for value in saved.random]:
            for variable, value in zip(seeds, saved.random):
                variable.assign(value)
        if saved.learning_rate is not None:
            backend.optimizer.set_learning_rate(model, saved.learning_rate)

    # ------------------------------------------------------------ transitions
    @property
    def _is_last(self) -> bool:
        return self.tracker.phase + 1 == len(self.phases)

    def epoch_begins(self, epoch: int) -> bool:
        """Enter the next phase if it is due; whether it was."""
        self._warm_base = None
        learning_rate = self._backend.optimizer.learning_rate(self._model)
        if self._written is not None and self._written != (epoch - 1, learning_rate):
            self.write(epoch - 1)  # Somebody set the rate after that epoch was written.
        if not self.tracker.over or self._is_last:
            return False
        if self._best:
            self.restore_best()
        elif self._optimizer_state(self.tracker.phase + 1) == "reset":
            finish_phase(self._snapshot)
        line = self.enter(self.tracker.phase + 1, inside=True)
        self.said.append(f"epoch {epoch}: {line}")
        return True

    def _optimizer_state(self, index: int) -> str:
        return self.phases[index].optimizer_state or self._default_state

    def enter(self, index: int, *, inside: bool, began: Optional[int] = None) -> str:
        """Enter a phase: flags, holds, optimizer, rate, train function, in this order.

        Args:
            began: the optimizer's iteration count when it began, where that is not now.
        """
        snapshot, model, backend = self._snapshot, self._model, self._backend
        planned, phase = self.plan[index], self.phases[index]
        before = self.tracker.target or backend.optimizer.learning_rate_now(model)
        learning_rate = rate_of(phase, before)
        schedule = phase.learning_rate if is_rate_schedule(phase.learning_rate) else None
        carry = self._optimizer_state(index) == "carry"
        if began is None:
            began = backend.optimizer.iterations(model) if carry else 0
        scheduled = self.tracker.scheduled if schedule is None else began
        if schedule is not None:
            schedule = backend.optimizer.delayed_schedule(schedule, began)
        enter_flags(snapshot, planned.flags)
        force_for_phase(model, {id(h.layer) for h in snapshot.handles if h.path in planned.held})
        if learning_rate is None and schedule is None and self.tracker.target:
            learning_rate = self.tracker.target  # The phase before ended while it was warming up.
        carried = enter_step(
            snapshot,
            carry=carry,
            schedule=schedule,
            learning_rate=learning_rate,
            inside=inside,
            factors=planned.factors,
        )
        self.tracker.enter(index)
        self.tracker.scheduled = scheduled
        self._best = []
        now = backend.optimizer.learning_rate(model)
        if phase.warmup:
            self.tracker.began, self.tracker.target = began, now
        announce_phase(backend, model, phase.name)
        return (
            f"phase {phase.name!r} begins, {planned.parameters:,} parameters train, "
            f"{planned.still} BN in inference mode, "
            f"rate {rate_cell(planned, now, 'schedule')}; {carried}"
        )

    def epoch_ends(self, epoch: int, logs: Mapping[str, Any]) -> bool:
        """Judge the epoch and note it on disk; whether training is over."""
        if self._final is not None:
            return True
        phase = self.phases[self.tracker.phase]
        if not self._seen_logs:
            check_watched(self.phases[self.tracker.phase + 1 :], logs)
        self._seen_logs = True
        judged = self._arguments.every_epoch or phase.monitor is None or phase.monitor in logs
        self.tracker.epoch_done(phase, logs, judged)
        if self.tracker.improved and phase.restore_best:
            self._best = self._weights()
        self.write(epoch)
        return self.tracker.over and self._is_last

    def ends(self, keep_files: bool) -> None:
        """Training has ended as planned: nothing of ours stays on the model."""
        if self._final is not None:
            weights, optimizer = self._final
            self._model.set_weights(weights)
            self._backend.optimizer.load_state(self._model, optimizer)
        self.restore_best()
        if self._file is not None and not keep_files:
            self._file.clear()
        release_phase(self._model)
        finish_factors(self._snapshot)
        announce_phase(self._backend, self._model, "")

    def restore_best(self) -> None:
        if self._best:
            self._backend.values.sync(self._model)
            self._model.set_weights(self._best)

    def _weights(self) -> List[Any]:
        self._backend.values.sync(self._model)
        return [value.copy() for value in self._model.get_weights()]

    # ---------------------------------------------------------------- warm-up
    def warm_up(self, batch: int) -> None:
        """At the begin of a batch, while a warm-up is under way: the rate rises linearly."""
        target, steps = self.tracker.target, self.phases[self.tracker.phase].warmup
        if target is None:
            return
        if self._warm_base is None:
            done = self._backend.optimizer.iterations(self._model) - self.tracker.began
            self._warm_base = done - batch
        step = self._warm_base + batch + 1
        self._backend.optimizer.set_learning_rate(self._model, target * min(1.0, step / steps))
        if step >= steps:
            self.tracker.target = None

    # ------------------------------------------------------------------ state
    def write(self, epoch: int) -> None:
        if self._file is None:
            return
        backend, model = self._backend, self._model
        learning_rate = backend.optimizer.learning_rate(model)
        self._file.write(
            SavedState(
                epoch=epoch,
                tracker=self.tracker,
                names=tuple(phase.name for phase in self.phases),
                pretrained=tuple(self.pretrained),
                learning_rate=learning_rate,
                optimizer=backend.optimizer.state(model),
                random=[backend.values.to_numpy(v) for v in backend.values.random_variables(model)],
                best=self._best,
            )
        )
        self._written = (epoch, learning_rate)
