"""`PhaseScheduler`: freeze and unfreeze in phases, inside one `fit`."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from keras_bnguard.action import enter_flags, enter_step
from keras_bnguard.engines import engine_for
from keras_bnguard.engines.fit_frame import FitArguments, fit_arguments
from keras_bnguard.engines.host import Hooks, joined
from keras_bnguard.engines.run_watch import announce_phase
from keras_bnguard.errors import ScheduleError
from keras_bnguard.inventory import Survey, take_inventory
from keras_bnguard.phase_plan import (
    PlannedPhase,
    check_against_fit,
    make_plan,
    plan_table,
    pretrained_norms,
    rate_of,
)
from keras_bnguard.phase_state import SavedState, StateFile, check_same_schedule
from keras_bnguard.schedule import Phase, Tracker, check_phases
from keras_bnguard.train_step import guard, unguard


class PhaseScheduler(Hooks):
    """Keras callback that runs a whole freeze / unfreeze recipe in one `fit`.

    At the begin of each phase it sets the flag of every layer, makes an optimizer for the
    weights that train now, sets the rate, holds BN as the phase says, and makes a new train
    function; metrics, History, the progress bar and other callbacks go on. BN that carried
    trained statistics when training began stay in inference mode through all phases, unless
    a phase says otherwise; a fresh head's BN trains.

    Args:
        phases: list of `Phase`.
        optimizer_state: for phases that do not say: "carry" keeps slots and iteration count
            of the weights that go on training, "reset" starts a new optimizer, as compiling
            again does. Defaults to "carry".
        state: folder for what is needed to go on after a kill. Defaults to a folder inside
            the `backup_dir` of a `BackupAndRestore` of the same `fit`; None without one.
        verbose: 1 prints the plan at the begin and one line per transition. Defaults to 1.

    Attributes:
        phase: the `Phase` under way, None before training.
        history: one dict per finished epoch: epoch, phase, rate, trainable share, logs.

    Raises:
        ScheduleError: before the first step: phases without end or with one name, a phase that
            trains nothing, a validation monitor without validation data, a rate that a compiled
            LearningRateSchedule would fight, an uncompiled or unbuilt model.
        SelectorError: `train` matches no layer; names the phase and lists near misses.

    Example:
        model.fit(x, y, epochs=15, callbacks=[bng.PhaseScheduler([
            bng.Phase("head", train="head*", learning_rate=1e-3, epochs=5),
            bng.Phase("all", train="*", learning_rate=1e-5),
        ])])
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> PhaseScheduler:
        made: PhaseScheduler = object.__new__(joined(cls))
        return made

    def __init__(
        self,
        phases: Sequence[Phase],
        optimizer_state: str = "carry",
        state: Any = None,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        self.phases: Tuple[Phase, ...] = check_phases(phases)
        if optimizer_state not in ("carry", "reset"):
            raise ScheduleError(
                f"optimizer_state={optimizer_state!r}: expected 'carry' or 'reset'."
            )
        self._default_state = optimizer_state
        self._state_folder = state
        self._verbose = verbose
        self._forget()

    def _forget(self) -> None:
        self._survey: Optional[Survey] = None
        self._plan: Tuple[PlannedPhase, ...] = ()
        self._tracker = Tracker()
        self._entered: Optional[int] = None
        self._file: Optional[StateFile] = None
        self._best: List[Any] = []
        self._warm: Optional[Tuple[int, float]] = None
        self._steps = 0
        self._started = False
        self._arguments: Optional[FitArguments] = None
        self._pretrained: Tuple[str, ...] = ()
        self._rate_before: Optional[float] = None
        self.phase: Optional[Phase] = None
        self.history: List[Dict[str, Any]] = []

    # ------------------------------------------------------------------ hooks
    def set_model(self, model: Any) -> None:
        super().set_model(model)
        arguments = fit_arguments(self._model)
        if arguments is not None:
            self._prepare(arguments)

    def on_train_begin(self, logs: Optional[Mapping[str, Any]] = None) -> None:
        if not self._plan:
            raise ScheduleError(
                "PhaseScheduler works inside model.fit only; this loop did not call fit."
            )
        if self._verbose:
            print(plan_table(self._plan, self._rate_before))

    def on_epoch_begin(self, epoch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        if not self._started:
            self._started = True
            self._go_on_from(epoch)
        if self._tracker.over and self._tracker.phase + 1 < len(self.phases):
            self._leave(epoch)
            self._enter(self._tracker.phase + 1, inside=True, epoch=epoch)

    def on_epoch_end(self, epoch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        logs = logs or {}
        phase = self.phases[self._tracker.phase]
        self._tracker.epoch_done(phase, logs)
        if self._tracker.improved and phase.restore_best:
            self._best = self._weights()
        self._note(epoch, logs)
        self._write(epoch)
        if self._tracker.over and self._tracker.phase + 1 == len(self.phases):
            self._restore_best()
            self.model.stop_training = True

    def on_train_end(self, logs: Optional[Mapping[str, Any]] = None) -> None:
        if self._file is not None:
            self._file.clear()
        if self._model is not None:
            unguard(self._model)
        announce_phase(engine_for(self._model), self._model, "")

    def _warm_up(self, batch: int, logs: Optional[Mapping[str, Any]] = None) -> None:
        """At the begin of a batch, while a warm-up is under way: the rate rises linearly."""
        if self._warm is None:
            return
        self._steps += 1
        steps, rate = self._warm
        engine_for(self._model).set_rate(self._model, rate * min(1.0, self._steps / steps))
        if self._steps >= steps:
            self._warm = None

    # ---------------------------------------------------------------- prepare
    def _prepare(self, arguments: FitArguments) -> None:
        """Resolve the plan and enter the phase training begins in, before any other hook."""
        self._forget()
        model = self._model
        engine = engine_for(model)
        if getattr(model, "optimizer", None) is None:
            raise ScheduleError(
                "PhaseScheduler needs a compiled model: call model.compile(...) before fit."
            )
        survey = take_inventory(model)
        if not survey.inventory.built or any(not n.built for n in survey.inventory.norms):
            raise ScheduleError(
                "PhaseScheduler needs a built model: call it on one batch, or model.build(...), "
                "before fit."
            )
        self._survey, self._arguments = survey, arguments
        self._file = self._state_file(arguments)
        saved = self._file.newest() if self._file is not None else None
        names = [phase.name for phase in self.phases]
        if saved is not None and self._file is not None:
            check_same_schedule(saved, names, self._file.folder)
        self._pretrained = saved.pretrained if saved else tuple(sorted(pretrained_norms(survey)))
        self._plan = make_plan(survey, self.phases, self._pretrained)
        self._rate_before = engine.rate(model)
        check_against_fit(
            self._plan,
            has_validation=arguments.has_validation,
            rate_is_schedule=engine.rate_is_schedule(model),
            rate=self._rate_before,
        )
        if any(phase.warmup for phase in self.phases):
            # Only now is the hook there: it costs a little at every batch.
            self.on_train_batch_begin = self._warm_up
        self._enter(saved.tracker.phase if saved else 0, inside=False, epoch=None)

    def _state_file(self, arguments: FitArguments) -> Optional[StateFile]:
        if self._state_folder is not None:
            return StateFile(self._state_folder)
        for callback in arguments.callbacks:
            folder = getattr(callback, "backup_dir", None)
            if folder is not None and "BackupAndRestore" in type(callback).__name__:
                # Beside the backup, not in it: Keras may remove everything that is in there.
                return StateFile(os.fspath(folder).rstrip("/\\") + "-phases")
        return None

    # ------------------------------------------------------------ transitions
    def _enter(self, index: int, *, inside: bool, epoch: Optional[int]) -> None:
        """Enter a phase: flags, holds, optimizer, rate, train function, in this order."""
        survey = self._survey
        assert survey is not None
        planned, phase = self._plan[index], self.phases[index]
        model, engine = survey.model, survey.engine
        rate = rate_of(phase, engine.rate(model))
        schedule = phase.learning_rate if rate is None and phase.learning_rate is not None else None
        enter_flags(survey, planned.flags)
        unguard(model)
        held = {id(h.layer) for h in survey.handles if h.path in planned.held}
        if held:
            guard(model, hold=lambda layer: id(layer) in held)
        state = phase.optimizer_state or self._default_state
        carried = enter_step(
            survey, carry=state == "carry", schedule=schedule, rate=rate, inside=inside
        )
        self._tracker.enter(index)
        self._entered, self.phase, self._best = index, phase, []
        self._warm, self._steps = None, 0
        if phase.warmup:
            target = rate if rate is not None else engine.rate(model)
            self._warm = (phase.warmup, float(target or 0.0))
        announce_phase(engine, model, phase.name)
        if self._verbose and epoch is not None:
            at = engine.rate(model)
            print(
                f"PhaseScheduler: epoch {epoch}: phase {phase.name!r} begins, "
                f"{planned.parameters:,} parameters train, {planned.still} BN in inference mode, "
                f"rate {'schedule' if at is None else format(at, '.3g')}; {carried}"
            )

    def _leave(self, epoch: int) -> None:
        self._restore_best()

    def _restore_best(self) -> None:
        if self._best and self.phases[self._tracker.phase].restore_best:
            self.model.set_weights(self._best)

    def _weights(self) -> List[Any]:
        return [value.copy() for value in self.model.get_weights()]

    # ----------------------------------------------------------------- resume
    def _go_on_from(self, epoch: int) -> None:
        """Come back in the state the run had before this epoch."""
        if epoch == 0:
            if self._entered != 0:
                self._enter(0, inside=True, epoch=None)
            if self._file is not None:
                self._file.clear()
            return
        saved = self._file.after(epoch - 1) if self._file is not None else None
        if saved is None:
            self._count_to(epoch)
            return
        if saved.tracker.phase != self._entered:
            self._enter(saved.tracker.phase, inside=True, epoch=None)
        self._load(saved)
        self._tracker = saved.tracker
        if self._verbose:
            print(
                f"PhaseScheduler: goes on at epoch {epoch} in phase "
                f"{self.phases[self._tracker.phase].name!r}, "
                f"{self._tracker.epochs} epochs done in it"
            )

    def _load(self, saved: SavedState) -> None:
        survey = self._survey
        assert survey is not None
        engine, model = survey.engine, survey.model
        self._best = saved.best
        if not engine.load_optimizer_state(model, saved.optimizer):
            raise ScheduleError(
                f"the optimizer state after epoch {saved.epoch} does not fit this model's "
                "optimizer. Compile with the optimizer the run was started with, or remove the state folder."
            )
        if saved.rate is not None:
            engine.set_rate(model, saved.rate)
        self._warm = None

    def _count_to(self, epoch: int) -> None:
        """Without a state: only a schedule of plain epoch counts says where this epoch is."""
        tracker = Tracker()
        for _ in range(epoch):
            phase = self.phases[tracker.phase]
            if phase.until is not None:
                raise ScheduleError(
                    f"fit begins at epoch {epoch}, and phase {phase.name!r} ends by what it "
                    "watched before. Give PhaseScheduler(state=folder), the same in both runs."
                )
            if tracker.over and tracker.phase + 1 < len(self.phases):
                tracker.enter(tracker.phase + 1)
                phase = self.phases[tracker.phase]
            tracker.epoch_done(phase, {})
        if tracker.phase != self._entered:
            self._enter(tracker.phase, inside=True, epoch=None)
        self._tracker = tracker

    def _write(self, epoch: int) -> None:
        survey = self._survey
        if self._file is None or survey is None:
            return
        engine, model = survey.engine, survey.model
        self._file.write(
            SavedState(
                epoch=epoch,
                tracker=self._tracker,
                names=tuple(phase.name for phase in self.phases),
                pretrained=tuple(self._pretrained),
                rate=engine.rate(model),
                optimizer=engine.optimizer_state(model),
                best=self._best,
            )
        )

    # ----------------------------------------------------------------- report
    def _note(self, epoch: int, logs: Mapping[str, Any]) -> None:
        survey = self._survey
        assert survey is not None
        planned = self._plan[self._tracker.phase]
        self.history.append(
            {
                "epoch": epoch,
                "phase": planned.phase.name,
                "rate": survey.engine.rate(survey.model),
                "trainable_share": planned.parameters / max(planned.total, 1),
                "logs": {key: float(value) for key, value in logs.items()},
            }
        )

    def plan(self, model: Any) -> str:
        """Dry run: the table `fit` would print, without data and without changing the model.

        Args:
            model: a built model; it need not be compiled.
        """
        survey = take_inventory(model)
        optimizer = getattr(model, "optimizer", None)
        rate = None if optimizer is None else survey.engine.rate(model)
        return plan_table(make_plan(survey, self.phases), rate)

    def summary(self) -> str:
        """What happened so far: one line per phase that has begun."""
        lines = []
        for phase in self.phases:
            epochs = [row for row in self.history if row["phase"] == phase.name]
            if not epochs:
                lines.append(f"{phase.name}: not begun")
                continue
            first, final = epochs[0], epochs[-1]
            loss = final["logs"].get("loss")
            lines.append(
                f"{phase.name}: epochs {first['epoch']}-{final['epoch']}, rate {final['rate']}, "
                f"{100 * final['trainable_share']:.0f} % trains"
                + ("" if loss is None else f", loss {loss:.4g}")
            )
        return "\n".join(lines)

    def __reduce__(self) -> Any:
        public = getattr(type(self), "_bng_public", type(self))
        return _rebuild, (
            public,
            (self.phases, self._default_state, self._state_folder, self._verbose),
        )

    def __deepcopy__(self, memo: Any) -> PhaseScheduler:
        rebuild, arguments = self.__reduce__()
        copied: PhaseScheduler = rebuild(*arguments)
        return copied


def _rebuild(cls: type, arguments: Tuple[Any, ...]) -> Any:
    return cls(*arguments)
