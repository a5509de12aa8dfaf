"""The custom training loops that are monitored: which there are, and when they start and end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Iterator, List, Tuple

from keras_bnguard.auto.fits import Fits
from keras_bnguard.auto.run_log import RunLog
from keras_bnguard.errors import fail_safe

if TYPE_CHECKING:  # Loading the monitor loads NumPy, before the script has asked for it.
    from keras_bnguard.auto.loop_monitor import Loop, LoopMonitor
    from keras_bnguard.records.ids import LayerId

KEEP_LOOPS = 4
"""A monitored loop keeps its model alive; so many at most, the oldest ends first."""


def nothing() -> None:
    """Nothing is to be done afterwards."""


class Loops:
    """The monitored loops.

    Args:
        log: where their results go.
        fits: the `fit` calls that are running.
        began: called after a loop has started.
    """

    def __init__(self, log: RunLog, fits: Fits, began: Callable[[], None]) -> None:
        self.log = log
        self.barrier = log.barrier
        self._fits = fits
        self._began = began
        self._monitors: Dict[int, LoopMonitor] = {}  # by id(model)
        self._unknown: Dict[int, Any] = {}
        self._local = threading.local()

    def reports(self) -> List[Any]:
        """What is known of the loops under way."""
        return [monitor.report() for monitor in self._monitors.values()]

    # -------------------------------------------------------------------- steps
    @fail_safe(lambda *args: (None, nothing))
    def before_batch(self, model: Any) -> Tuple[Any, Callable[[], None]]:
        """Before a `train_on_batch`; returns (a context for it, what to call after it)."""
        if not self.log.on or model in self._fits or self._watched(model):
            return None, nothing
        if self.log.unwatchable():
            return None, nothing
        monitor = self._monitor_of_batches(model)
        self._report(monitor)
        return _Inside(self._local), lambda: self._after_batch(monitor)

    def _monitor_of_batches(self, model: Any) -> LoopMonitor:
        from keras_bnguard.auto.loop_monitor import Loop, LoopKind
        from keras_bnguard.backends.call_stack import user_line

        monitor = self._monitors.get(id(model))
        if monitor is not None:
            if monitor.loop.kind is LoopKind.TRAIN_ON_BATCH and not monitor.is_over():
                return monitor
            self._drop(monitor)
        return self._begin(model, Loop(LoopKind.TRAIN_ON_BATCH, user_line()))

    @fail_safe()
    def _after_batch(self, monitor: LoopMonitor) -> None:
        monitor.step()
        self._report(monitor)

    @fail_safe()
    def before_apply(self, optimizer: Any, variables: Any, stateless: bool) -> None:
        """Before an optimizer's step outside `fit` and `train_on_batch`."""
        if not self.log.on or self._fits.open or getattr(self._local, "inside", 0):
            return
        if self.log.unwatchable():
            return
        if stateless:
            self._local.stateless = True
        elif getattr(self._local, "stateless", False):
            return
        if not variables:
            return
        anchor = (id(optimizer), id(variables[0]))
        monitors = list(self._monitors.values())
        monitor = next((each for each in monitors if each.loop.anchor == anchor), None)
        if monitor is None or monitor.is_over():
            if monitor is not None:
                self._drop(monitor)
            if self._unknown.get(anchor[0]) == anchor[1]:
                return
            monitor = self._find(optimizer, variables, stateless, anchor)
            if monitor is None:
                self._unknown[anchor[0]] = anchor[1]
                return
        monitor.step()
        self._report(monitor)

    # ----------------------------------------------------------------- begin, end
    def _find(self, optimizer: Any, variables: Any, stateless: bool, anchor: Any) -> Any:
        """The monitor on the model whose variables an optimizer was given, None where unknown."""
        from keras_bnguard.auto.loop_monitor import Loop, LoopKind, in_own_thread
        from keras_bnguard.backends.call_stack import user_line
        from keras_bnguard.backends.live_objects import model_trained_with
        from keras_bnguard.backends.registry import loaded_backends

        line = user_line()  # Here: what follows runs in a thread of its own.

        def find() -> Any:
            for backend in loaded_backends():
                model = model_trained_with(backend, variables)
                if model is not None:
                    break
            else:
                self.log.unseen.add(
                    f"an optimizer ({type(optimizer).__name__}) took steps of variables that "
                    "are not those of one model for certain; they were not watched"
                )
                return None
            other = self._monitors.get(id(model))
            if model in self._fits or self._watched(model):
                return None
            if other is not None and not other.is_over():
                return None  # A second optimizer of a model that is watched already.
            if other is not None:
                self._drop(other)
            kind = LoopKind.STATELESS if stateless else LoopKind.OPTIMIZER
            return self._begin(model, Loop(kind, line, optimizer, anchor))

        return in_own_thread(find)

    def _begin(self, model: Any, loop: Loop) -> LoopMonitor:
        from keras_bnguard.auto.loop_monitor import LoopMonitor
        from keras_bnguard.rules.evaluate import RuleFilter

        settings = self.log.settings
        monitor = LoopMonitor(
            model,
            loop,
            RuleFilter.of(settings.select, settings.ignore),
            safely=lambda: self.barrier,
            every=settings.every if isinstance(settings.every, int) else 0,
        )
        with self.log.lock:
            if not self.log.on:  # Another thread has turned warnings off meanwhile.
                monitor.abandon()
                return monitor
            for other in self._monitors.values():
                other.note_other_model(monitor.keys)
                monitor.note_other_model(other.keys)
            self._monitors[id(model)] = monitor
            old = list(self._monitors.values())[:-KEEP_LOOPS]
        for each in old:
            self._monitors.pop(id(each.model), None)
            self._end(each)
        self._began()
        return monitor

    def before_fit(self, model: Any) -> None:
        """A model goes into `fit`: its loop has ended, and others may hold layers of it."""
        for monitor in self._take(model):
            self._end(monitor)
        if self._monitors:
            from keras_bnguard.backends.registry import backend_for

            keys = {id(layer) for layer in backend_for(model).graph.all_layers(model)}
            for other in list(self._monitors.values()):
                other.note_other_model(keys)

    def finish(self) -> None:
        """Check every loop a last time; their reports are complete then."""
        for monitor in self._take():
            self._end(monitor)

    def _take(self, model: Any = None) -> Iterator[Any]:
        with self.log.lock:
            every = list(self._monitors.values())
            taken = [monitor for monitor in every if model is None or monitor.model is model]
            for monitor in taken:
                self._monitors.pop(id(monitor.model), None)
        return iter(taken)

    def _drop(self, monitor: LoopMonitor) -> None:
        with self.log.lock:
            key = id(monitor.model)
            if key in self._monitors and self._monitors[key] is monitor:
                del self._monitors[key]
        monitor.abandon()
        if monitor.has_results:
            self.log.collect(monitor.model, monitor.report(), "loop", monitor.loop.line)

    def _end(self, monitor: LoopMonitor) -> None:
        try:
            report = monitor.finish()
        except Exception as error:
            self.barrier.note(error)
            monitor.abandon()
            report = monitor.report()
        self.log.collect(monitor.model, report, "loop", monitor.loop.line)
        self._report(monitor)

    def _report(self, monitor: LoopMonitor) -> None:
        for finding in monitor.take_new_findings():
            self.log.emit(monitor.model, finding, monitor.loop.line)

    def _watched(self, model: Any) -> bool:
        """Whether the user watches the model already, with `BNGuard().watch(model)`."""
        from keras_bnguard.backends.patches import model_hooks

        monitors = list(self._monitors.values())
        return any(
            not any(monitor.owns(listener) for monitor in monitors)
            for listener in model_hooks.runs_of(model)
        )

    # ------------------------------------------------------------------ changes
    def changed(self, keys: Iterable[LayerId], compiled: bool = False) -> None:
        """Flags were assigned, or a model was compiled: its monitors may have to begin again."""
        for monitor in list(self._monitors.values()):
            if monitor.knows(keys):
                if compiled:
                    monitor.note_new_start()
                else:
                    monitor.note_flags()
        if compiled:
            self._unknown.clear()

    def after_load(self, layer: Any) -> None:
        """Weights were loaded: what changed since the start was not changed by training alone."""
        if self._monitors and not self._fits.open:
            from keras_bnguard.records.ids import layer_id

            for monitor in list(self._monitors.values()):
                if monitor.knows({layer_id(layer)}):
                    monitor.note_new_start()


class _Inside:
    """While open, this thread is inside a `train_on_batch`."""

    def __init__(self, local: Any) -> None:
        self._local = local

    def __enter__(self) -> None:
        self._local.inside = getattr(self._local, "inside", 0) + 1

    def __exit__(self, *exception: Any) -> None:
        self._local.inside -= 1
