"""A watch on every training loop outside `fit`: which there are, and when they begin and end."""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, Iterable, Iterator, List, Tuple

from keras_bnguard.auto.fits import Fits
from keras_bnguard.auto.run_log import RunLog
from keras_bnguard.errors import fail_safe

KEEP_LOOPS = 4
"""A loop that is watched keeps its model alive; so many at most, the oldest goes first."""


def nothing() -> None:
    """To be called after what needs nothing after it."""


class Loops:
    """The loops that are watched. began: called after each begin of a watch."""

    def __init__(self, log: RunLog, fits: Fits, began: Callable[[], None]) -> None:
        self.log = log
        self.barrier = log.barrier
        self._fits = fits
        self._began = began
        self._watches: Dict[int, Any] = {}  # id(model) -> LoopMonitor
        self._unknown: Dict[int, Any] = {}
        self._local = threading.local()

    def reports(self) -> List[Any]:
        """What is known of the loops under way."""
        return [watch.report() for watch in self._watches.values()]

    # -------------------------------------------------------------------- steps
    @fail_safe(lambda *args: (None, nothing))
    def before_batch(self, model: Any) -> Tuple[Any, Callable[[], None]]:
        """Before a `train_on_batch`; returns (a context for it, what to call after it)."""
        if not self.log.on or model in self._fits or self._watched(model):
            return None, nothing
        watch: Any = self._watches.get(id(model))
        if watch is not None and (watch.kind != "train_on_batch" or watch.is_over()):
            self._drop(watch)
            watch = None
        if watch is None:
            from keras_bnguard.backends.call_stack import user_line

            watch = self._begin(model, "train_on_batch")
            watch.line = user_line()
        self._say(watch)
        return _Inside(self._local), lambda: self._after_batch(watch)

    @fail_safe()
    def _after_batch(self, watch: Any) -> None:
        watch.step()
        self._say(watch)

    @fail_safe()
    def before_apply(self, optimizer: Any, variables: Any, stateless: bool) -> None:
        """Before an optimizer's step outside `fit` and `train_on_batch`."""
        if not self.log.on or self._fits.open or getattr(self._local, "inside", 0):
            return
        if stateless:
            self._local.stateless = True
        elif getattr(self._local, "stateless", False):
            return
        if not variables:
            return
        anchor = (id(optimizer), id(variables[0]))
        watches: List[Any] = list(self._watches.values())
        watch = next((each for each in watches if each.anchor == anchor), None)
        if watch is None or watch.is_over():
            if watch is not None:
                self._drop(watch)
            if self._unknown.get(anchor[0]) == anchor[1]:
                return
            watch = self._find(optimizer, variables, stateless, anchor)
            if watch is None:
                self._unknown[anchor[0]] = anchor[1]
                return
        watch.step()
        self._say(watch)

    # ----------------------------------------------------------------- begin, end
    def _find(self, optimizer: Any, variables: Any, stateless: bool, anchor: Any) -> Any:
        """The watch on the model whose variables an optimizer was given, None where unknown."""
        from keras_bnguard.auto.loop_monitor import elsewhere
        from keras_bnguard.backends.call_stack import user_line
        from keras_bnguard.backends.global_hooks import owners_of
        from keras_bnguard.backends.registry import loaded_backends

        line = user_line()  # Here: what follows runs in a thread of its own.

        def find() -> Any:
            for backend in loaded_backends():
                model = owners_of(backend, variables)
                if model is not None:
                    break
            else:
                self.log.unseen.add(
                    f"an optimizer ({type(optimizer).__name__}) took steps of variables that "
                    "are not those of one model for certain; they were not watched"
                )
                return None
            other = self._watches.get(id(model))
            if model in self._fits or self._watched(model):
                return None
            if other is not None and not other.is_over():
                return None  # A second optimizer of a model that is watched already.
            if other is not None:
                self._drop(other)
            kind = "stateless" if stateless else "optimizer"
            return self._begin(model, kind, optimizer, anchor)

        watch = elsewhere(find)
        if watch is not None:
            watch.line = line
        return watch

    def _begin(self, model: Any, kind: str, optimizer: Any = None, anchor: Any = (0, 0)) -> Any:
        from keras_bnguard.auto.loop_monitor import LoopMonitor
        from keras_bnguard.backends.registry import backend_for
        from keras_bnguard.rules.evaluate import RuleFilter

        settings = self.log.settings
        watch = LoopMonitor(
            backend_for(model),
            model,
            kind,
            RuleFilter.of(settings.select, settings.ignore),
            protect=self._protect,
            every=settings.every if isinstance(settings.every, int) else 0,
            optimizer=optimizer,
            anchor=anchor,
        )
        with self.log.lock:
            for other in self._watches.values():
                other.also_trained(watch.keys)
                watch.also_trained(other.keys)
            self._watches[id(model)] = watch
            old = list(self._watches.values())[:-KEEP_LOOPS]
        for each in old:
            self._watches.pop(id(each.model), None)
            self._end(each)
        self._began()
        return watch

    def _protect(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception as error:
            self.barrier.note(error)

    def before_fit(self, model: Any) -> None:
        """A model goes into `fit`: its loop has ended, and others may hold layers of it."""
        for watch in self._take(model):
            self._end(watch)
        if self._watches:
            from keras_bnguard.backends.registry import backend_for

            keys = {id(layer) for layer in backend_for(model).graph.all_layers(model)}
            for other in list(self._watches.values()):
                other.also_trained(keys)

    def finish(self) -> None:
        """Last look at every loop; their reports are complete then."""
        for watch in self._take():
            self._end(watch)

    def _take(self, model: Any = None) -> Iterator[Any]:
        with self.log.lock:
            every = list(self._watches.values())
            taken = [watch for watch in every if model is None or watch.model is model]
            for watch in taken:
                self._watches.pop(id(watch.model), None)
        return iter(taken)

    def _drop(self, watch: Any) -> None:
        with self.log.lock:
            key = id(watch.model)
            if key in self._watches and self._watches[key] is watch:
                del self._watches[key]
        watch.abandon()
        if watch.looks or watch.found:
            self.log.collect(watch.model, watch.report(), "loop", watch.line)

    def _end(self, watch: Any) -> None:
        try:
            report = watch.finish()
        except Exception as error:
            self.barrier.note(error)
            watch.abandon()
            report = watch.report()
        self.log.collect(watch.model, report, "loop", watch.line)
        self._say(watch)

    def _say(self, watch: Any) -> None:
        found, watch.found[:] = list(watch.found), []
        for finding in found:
            self.log.tell(watch.model, finding, watch.line)

    def _watched(self, model: Any) -> bool:
        """Whether the user watches the model already, with `BNGuard().watch(model)`."""
        from keras_bnguard.backends.patches import model_hooks

        watches: List[Any] = list(self._watches.values())
        mine = {id(watch._run) for watch in watches}
        return any(id(run) not in mine for run in model_hooks.runs_of(model))

    # ------------------------------------------------------------------ changes
    def changed(self, keys: Iterable[int], compiled: bool = False) -> None:
        """Flags were assigned, or a model was compiled: watches of it may have to begin anew."""
        for watch in list(self._watches.values()):
            if watch.knows(keys):
                watch.disturbed = True
                watch.recompiled = watch.recompiled or compiled
        if compiled:
            self._unknown.clear()

    def after_load(self, layer: Any) -> None:
        """Weights were loaded: what moved since the start was not moved by training alone."""
        if self._watches and not self._fits.open:
            for watch in list(self._watches.values()):
                if watch.knows({id(layer)}):
                    watch.recompiled = True


class _Inside:
    """While open, this thread is inside a `train_on_batch`."""

    def __init__(self, local: Any) -> None:
        self._local = local

    def __enter__(self) -> None:
        self._local.inside = getattr(self._local, "inside", 0) + 1

    def __exit__(self, *exception: Any) -> None:
        self._local.inside -= 1
