"""One guarded run over one model: look at train begin, look again, say what was found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional, Sequence

from keras_bnguard.backends.values.readers import LiveReader
from keras_bnguard.guard.fact_collector import AT_END, WHEN_QUIET, WHILE_TRAINING
from keras_bnguard.guard.phase_history import PhaseHistory
from keras_bnguard.guard.trainable_tracker import ListeningRun
from keras_bnguard.records import TRAIN_START, DataFacts, DriftSnapshot, Finding, Moment, MomentKind

_MANY_LOOKS = 2000


class GuardRun(ListeningRun):
    """A guarded run of one model: looks at train begin, between batches, at ends."""

    def begin(self) -> Sequence[Finding]:
        """Judge the model as it is at train begin."""
        return self._judge(TRAIN_START)

    def needs_check(self) -> bool:
        """Between two batches: whether there is reason for a look.

        There is one at each of the first 20 times, at every 128th after, which measures drift,
        and whenever a BN moved or stood still that did not before, or lost its health. Where
        the backend can be asked without waiting for it, the answer comes some batches later.
        """
        self._glances += 1
        if self._glances <= 20 or self._glances % 128 == 0 or self.tracer.barrier.disabled:
            return True
        reader, screen = self._live_reader(), self.stats.screen()
        passes = None if reader is None or screen is None else reader.ask(screen)
        if passes is not None:
            return not passes
        values = None if reader is None else reader.read()
        return values is None or not self.stats.quick_check(values)

    def _live_reader(self) -> Optional[LiveReader]:
        model = self._model()
        if model is None or not self.snapshot.inventory.built:
            return None
        if self._reader is None:
            self._reader = self.stats.live_reader(model)
        return self._reader

    def _note_in_chapter(self, chapter: PhaseHistory, model: Any, done: int, loss: Any) -> None:
        learning_rate = self.backend.optimizer.learning_rate_now(model)
        chapter.look(model, self.snapshot.inventory, done, loss, learning_rate)
        if self._known_optimizer is not None:
            self._known_optimizer = replace(self._known_optimizer, learning_rate=learning_rate)

    def look(
        self,
        moment: Moment,
        epoch: Optional[int] = None,
        live: bool = False,
        loss: Any = None,
    ) -> DriftSnapshot:
        """Read the moving statistics and judge what happened since train begin.

        Args:
            moment: words for the report. epoch: from 0, None where unknown.
            live: between two batches of `fit`, where an backend may keep the values elsewhere.
            loss: what Keras logged for the epoch.
        """
        if self.tracer.barrier.error is not None:
            raise self.tracer.barrier.error
        model = self._model()
        self.epoch = epoch
        # In a loop of one's own that looks often, a read that is compiled once is worth it too.
        often = not self._in_fit and len(self.drift) >= 3
        reader = self._live_reader() if live or often else None
        values = None if reader is None else reader.read()
        if model is not None:
            if values is None:
                self.backend.values.sync(model)
            done = self.backend.optimizer.iterations(model)
            self.steps = max(done - self._started, self.steps, 1 if self.tracer.outermost else 0)
            self._survey_what_was_built(model)
            if self._grown and not live and self.late_data is not None:
                self.data, self.late_data = self.late_data(self), None
            if not self._in_fit and not self._step_seen and self.wanted != self.compiled:
                # No step of Keras's own: the flags count as they are.
                self._survey_again(model, dict(self.wanted))
            if self.chapter is not None and not live:
                self._note_in_chapter(self.chapter, model, done, loss)
        self.stats.look(values)
        if model is not None and moment.kind is MomentKind.EPOCH_END:
            self._averages.measure(self.backend, model)
        self._note_late_defaults()
        drift = self.stats.drift(moment, epoch, self.steps)
        self._keep(drift)
        # What does not change while training runs was judged when it was surveyed.
        again = (
            self._surveyed
            or self.data is not None
            or bool(self._step_flips)
            or self.flags_pending()
        )
        unchanged = self.stats.unchanged(self.tracer.sites, self.steps)
        if model is not None and (again or not unchanged):
            self.backend.values.sync(model)
        if again:
            self._judge(moment)
        else:
            self._judge(moment, only=WHEN_QUIET if unchanged else WHILE_TRAINING)
        self.data = None  # It tells of the model as it was at this look.
        return drift

    def _keep(self, drift: DriftSnapshot) -> None:
        """The history; of looks between batches every second is dropped before they are many."""
        self.drift.append(drift)
        if len(self.drift) > _MANY_LOOKS:
            between = [look for look in self.drift if look.moment.kind is MomentKind.BATCH_END]
            dropped = {id(look) for look in between[::2]}
            self.drift = [look for look in self.drift if id(look) not in dropped]

    def finish(self, callbacks: Sequence[Any] = (), data: Optional[DataFacts] = None) -> None:
        """Training has ended: judge what only shows now, with what was measured on data."""
        model = self._model()
        if model is None:
            return
        self.data = data
        if not self._in_fit:
            self._judge(Moment(MomentKind.LOOP_END), only=("BNG506",))
            return
        self.over = True
        self._averaging = self._averages.at_end(model, callbacks)
        judged = [look.steps for look in self.drift]
        if judged and self.steps > 0:
            since = judged[-1] - (judged[-2] if len(judged) > 1 else 0)
            self._ema_biases = self.stats.ema_biases(judged[-1], since, self._calls())
        self._judge(Moment(MomentKind.TRAIN_END), only=AT_END)
