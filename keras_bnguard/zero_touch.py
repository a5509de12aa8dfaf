"""Warnings in pipelines nobody edits: a guard in every `fit`, a watch on every other loop.

What stands in front of Keras is `engines.patching`; what is decided here is framework-free.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
import threading
import traceback
import warnings
import weakref
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Set,
    Tuple,
    TypeVar,
    cast,
)

from keras_bnguard.errors import BNGuardWarning, FindingError
from keras_bnguard.import_hook import PACKAGES, ImportHook
from keras_bnguard.settings import Settings, read_settings

if TYPE_CHECKING:  # Loading the records loads NumPy, before the script has asked for it.
    from keras_bnguard.records import Finding, Report

KEEP_RUNS = 500
"""So many reports are kept; of older ones only those with findings."""

KEEP_LOOPS = 4
"""A loop that is watched keeps its model alive; so many at most, the oldest goes first."""

Method = TypeVar("Method", bound=Callable[..., Any])


def enable_warnings(**settings: Any) -> None:
    """Put a guard into every `fit` of every Keras, and watch every other training loop.

    Works before or after Keras is imported, for tf.keras, tf_keras and Keras 3 at once.
    History, logs, progress bar, weights and random state of the runs stay what they were. A
    `fit` that has a `BNGuard` already gets no second one. Calling it again with other settings
    replaces them. A `BNGuardWarning` is given for each finding, once per model.

    Args:
        select: rule codes or prefixes. ignore: codes, "BNG404:siamese/*", or a mapping from a
            code to layer globs. every: "epoch" or a number of batches. fix: repair what is
            safe. on_finding: "warn", "raise", "log" or a function. report: a file to write at
            exit. What is not given is read from the environment variable BNGUARD, then
            `[tool.bnguard]` in pyproject.toml, then `[bnguard]` in setup.cfg.

    Raises:
        SettingError: an unknown setting, or one with a value it cannot have.
    """
    _STATE.enable(read_settings(settings), by_warning=True)


def disable_warnings() -> None:
    """Take everything off again: each Keras has its very own functions back. Never raises
    where nothing was on."""
    _STATE.disable()


def reports() -> List[Report]:
    """One report per model and fit (or loop) since warnings were switched on, in order."""
    return _STATE.reports()


def never_fails(result: Any = None) -> Callable[[Method], Method]:
    """A method that runs inside the user's training: a fault of ours is noted, once, and
    nothing is changed for them. A finding they want raised passes."""

    def decorate(method: Method) -> Method:
        @functools.wraps(method)
        def careful(self: ZeroTouch, *args: Any, **kwargs: Any) -> Any:
            try:
                return method(self, *args, **kwargs)
            except FindingError:
                raise
            except Exception as error:
                self.failed(error)
                return result(*args) if callable(result) else result

        return cast(Method, careful)

    return decorate


def _nothing() -> None:
    return None


class ZeroTouch:
    """All that is known while warnings are on. One per process; tests may make more."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.on = False
        self.settings = Settings()
        self.faults: List[str] = []
        self.dropped = 0
        self._by_warning = True
        self._fits = 0
        self._fitting: Dict[int, int] = {}
        self._reports: List[Report] = []
        self._loops: Dict[int, Any] = {}  # id(model) -> LoopWatch
        self._unknown: Dict[int, Any] = {}
        self._unseen: Set[str] = set()
        self._told: Dict[int, Tuple[Any, Set[Any]]] = {}
        self._numbers: Dict[int, Tuple[Any, int]] = {}
        self._local = threading.local()
        self._at_exit = False
        self._hook = ImportHook(self._keras_imported)

    # ------------------------------------------------------------------ on, off
    def enable(self, settings: Settings, by_warning: bool) -> None:
        """Switch on, or go on with other settings. by_warning: tell by `BNGuardWarning`
        unless the settings say how; otherwise only collect."""
        if settings.report:  # The script may go to another folder before it is written.
            settings = settings._replace(report=os.path.abspath(settings.report))
        with self._lock:
            self.settings = settings
            self._by_warning = by_warning
            if not self.on:
                self._reports.clear()
                self._told.clear()
            self.on = True
            if settings.report and by_warning:
                self._look_at_exit()
            self._hook.put()
            if any(package in sys.modules for package in PACKAGES):
                self._keras_imported()

    @never_fails()
    def _keras_imported(self) -> None:
        from keras_bnguard.engines import patching

        with self._lock:
            if self.on:
                patching.install(self)

    def disable(self) -> None:
        """Switch off; loops that are watched get their last look."""
        with self._lock:
            self._hook.take_away()
            if not self.on:
                return
            self.finish("disable_warnings()")
            self.on = False
            patching = sys.modules.get("keras_bnguard.engines.patching")
            if patching is not None:
                patching.uninstall()

    @never_fails()
    def finish(self, moment: str = "exit") -> None:
        """Last look at every loop; their reports are complete then."""
        for watch in self._take_loops():
            self._end_loop(watch, moment)

    def _look_at_exit(self) -> None:
        # Registered after the frameworks were imported, so that it runs before they are gone.
        if not self._at_exit:
            self._at_exit = True
            atexit.register(self._exit)

    def _exit(self) -> None:
        if self.on and self._by_warning:
            with contextlib.suppress(FindingError):
                self.finish()
            self._write()

    @never_fails()
    def _write(self) -> None:
        if self.settings.report:
            from keras_bnguard.report import write_report
            from keras_bnguard.report.several import merged

            write_report(merged(self.reports()), self.settings.report)

    # ------------------------------------------------------------------ reports
    def reports(self) -> List[Report]:
        """Those of runs that have ended, then those of loops under way."""
        with self._lock:
            return [*self._reports, *(watch.report() for watch in self._loops.values())]

    @property
    def unseen(self) -> Tuple[str, ...]:
        """What could not be seen, one line each."""
        return tuple(sorted(self._unseen))

    def _collect(self, model: Any, report: Optional[Report], kind: str) -> None:
        if report is None:
            return
        with self._lock:
            from dataclasses import replace

            number = self._number(model)
            note = f"{kind} {number} of this model" if number > 1 else kind
            self._reports.append(replace(report, notes=(note, *report.notes)))
            if len(self._reports) > KEEP_RUNS:
                silent = next((i for i, r in enumerate(self._reports) if not r.findings), 0)
                del self._reports[silent]
                self.dropped += 1

    def _number(self, model: Any) -> int:
        """1 for the first run of a model, 2 for the second."""
        entry = self._numbers.get(id(model))
        number = entry[1] + 1 if entry is not None and entry[0]() is model else 1
        self._numbers[id(model)] = (weakref.ref(model, self._forget(self._numbers, model)), number)
        return number

    @staticmethod
    def _forget(table: Dict[int, Any], model: Any) -> Callable[[Any], None]:
        key = id(model)

        def forget(ref: Any) -> None:
            entry = table.get(key)
            if entry is not None and entry[0] is ref:
                table.pop(key, None)

        return forget

    # ------------------------------------------------------------------ telling
    def tell(self, model: Any, finding: Finding) -> None:
        """Hand out a finding the way the settings say, once per model."""
        from keras_bnguard.callbacks.emit import Emitter

        with self._lock:
            entry = self._told.get(id(model))
            if entry is None or entry[0]() is not model:
                entry = (weakref.ref(model, self._forget(self._told, model)), set())
                self._told[id(model)] = entry
            key = (finding.code, finding.layers, finding.repaired)
            if key in entry[1]:
                return
            entry[1].add(key)
        how = self.settings.on_finding
        if how is None and not self._by_warning:
            return
        Emitter(how or "warn")(finding)

    def failed(self, error: BaseException) -> None:
        """A fault of ours: said once, kept for the report, never the user's."""
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        first = not self.faults
        if len(self.faults) < 10:
            self.faults.append(trace)
        if first:
            with contextlib.suppress(Exception):
                warnings.warn(
                    f"keras_bnguard failed; training goes on without it. {error!r}\n{trace}",
                    BNGuardWarning,
                    stacklevel=2,
                )

    # ---------------------------------------------------------------------- fit
    def around_fit(self, model: Any, callbacks: Any) -> Tuple[Any, Callable[[], None]]:
        """The callbacks to run `fit` with, and what to call when it is left."""
        if not self.on:
            return callbacks, _nothing
        try:
            return self._enter_fit(model, callbacks)
        except Exception as error:
            self.failed(error)
            return callbacks, _nothing

    def _enter_fit(self, model: Any, callbacks: Any) -> Tuple[Any, Callable[[], None]]:
        from keras_bnguard.callbacks.silent import own_guard, silent_guard, with_guard

        for watch in self._take_loops(model):
            self._end_loop(watch, "before fit")
        if self._loops:
            from keras_bnguard.engines.select import engine_for

            keys = {id(layer) for layer in engine_for(model).all_layers(model)}
            for other in list(self._loops.values()):
                other.also_trained(keys)
        own = own_guard(callbacks)
        nested = self._fitting.get(id(model), 0)
        inserted: Any = None
        guard: Any = own
        if own is None and not nested:
            guard = silent_guard(self.settings, functools.partial(self.tell, model))
            callbacks, inserted = with_guard(callbacks, guard, model)
        with self._lock:
            self._fits += 1
            self._fitting[id(model)] = nested + 1

        def done() -> None:
            with self._lock:
                self._fits -= 1
                left = self._fitting.get(id(model), 1) - 1
                if left:
                    self._fitting[id(model)] = left
                else:
                    self._fitting.pop(id(model), None)
            if not nested:
                self._leave_fit(model, guard, inserted, own is None)

        return callbacks, done

    @never_fails()
    def _leave_fit(self, model: Any, guard: Any, inserted: Any, ours: bool) -> None:
        if inserted is not None:
            inserted()
        if ours:
            guard._stop()
        self._collect(model, guard.report, "fit")

    # -------------------------------------------------------------------- loops
    @never_fails(lambda *args: (None, _nothing))
    def before_batch(self, model: Any) -> Tuple[Any, Callable[[], None]]:
        """Before a `train_on_batch`; returns (None, what to call after it)."""
        if not self.on or id(model) in self._fitting or self._watched(model):
            return None, _nothing
        watch: Any = self._loops.get(id(model))
        if watch is not None and (watch.kind != "train_on_batch" or watch.is_over()):
            self._drop_loop(watch)
            watch = None
        if watch is None:
            watch = self._begin_loop(model, "train_on_batch")
        self._say(watch)
        return _Inside(self._local), lambda: self._after_batch(watch)

    @never_fails()
    def _after_batch(self, watch: Any) -> None:
        watch.step()
        self._say(watch)

    @never_fails()
    def before_apply(self, optimizer: Any, variables: Any, stateless: bool) -> None:
        """Before an optimizer's step outside `fit` and `train_on_batch`."""
        if not self.on or self._fits or getattr(self._local, "inside", 0):
            return
        if stateless:
            self._local.stateless = True
        elif getattr(self._local, "stateless", False):
            return
        if not variables:
            return
        anchor = (id(optimizer), id(variables[0]))
        loops: List[Any] = list(self._loops.values())
        watch = next((each for each in loops if each.anchor == anchor), None)
        if watch is None or watch.is_over():
            if watch is not None:
                self._drop_loop(watch)
            if self._unknown.get(anchor[0]) == anchor[1]:
                return
            watch = self._find_loop(optimizer, variables, stateless, anchor)
            if watch is None:
                self._unknown[anchor[0]] = anchor[1]
                return
        watch.step()
        self._say(watch)

    def after_apply(self, optimizer: Any) -> None:
        """After it."""

    def _find_loop(self, optimizer: Any, variables: Any, stateless: bool, anchor: Any) -> Any:
        from keras_bnguard.engines.patching import owners_of
        from keras_bnguard.engines.select import loaded_engines
        from keras_bnguard.loop_watch import elsewhere

        def find() -> Any:
            for engine in loaded_engines():
                model = owners_of(engine, variables)
                if model is not None:
                    break
            else:
                self._unseen.add(
                    f"a {type(optimizer).__name__} took steps of variables that are not those "
                    "of one model for certain; they were not watched"
                )
                return None
            other = self._loops.get(id(model))
            if id(model) in self._fitting or self._watched(model):
                return None
            if other is not None and not other.is_over():
                return None  # A second optimizer of a model that is watched already.
            if other is not None:
                self._drop_loop(other)
            kind = "stateless" if stateless else "optimizer"
            return self._begin_loop(model, kind, optimizer, anchor)

        return elsewhere(find)

    def _begin_loop(
        self, model: Any, kind: str, optimizer: Any = None, anchor: Any = (0, 0)
    ) -> Any:
        from keras_bnguard.engines.select import engine_for
        from keras_bnguard.findings import Muting
        from keras_bnguard.loop_watch import LoopWatch

        settings = self.settings
        watch = LoopWatch(
            engine_for(model),
            model,
            kind,
            Muting.of(settings.select, settings.ignore),
            protect=self._protect,
            every=settings.every if isinstance(settings.every, int) else 0,
            optimizer=optimizer,
            anchor=anchor,
        )
        with self._lock:
            for other in self._loops.values():
                other.also_trained(watch.keys)
                watch.also_trained(other.keys)
            self._loops[id(model)] = watch
            old = list(self._loops.values())[:-KEEP_LOOPS]
        for each in old:
            self._loops.pop(id(each.model), None)
            self._end_loop(each, "a later model trains")
        self._look_at_exit()
        return watch

    def _protect(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception as error:
            self.failed(error)

    def _take_loops(self, model: Any = None) -> Iterator[Any]:
        with self._lock:
            every = list(self._loops.values())
            taken = [watch for watch in every if model is None or watch.model is model]
            for watch in taken:
                self._loops.pop(id(watch.model), None)
        return iter(taken)

    def _drop_loop(self, watch: Any) -> None:
        with self._lock:
            key = id(watch.model)
            if key in self._loops and self._loops[key] is watch:
                del self._loops[key]
        watch.abandon()
        if watch.looks or watch.found:
            self._collect(watch.model, watch.report(), "loop")

    def _end_loop(self, watch: Any, moment: str) -> None:
        try:
            report = watch.finish(moment)
        except Exception as error:
            self.failed(error)
            watch.abandon()
            report = watch.report()
        self._collect(watch.model, report, "loop")
        self._say(watch)

    def _say(self, watch: Any) -> None:
        found, watch.found[:] = list(watch.found), []
        for finding in found:
            self.tell(watch.model, finding)

    def _watched(self, model: Any) -> bool:
        """Whether the user watches the model already, with `BNGuard().watch(model)`."""
        from keras_bnguard.engines import run_watch

        loops: List[Any] = list(self._loops.values())
        mine = {id(watch._run) for watch in loops}
        return any(id(run) not in mine for run in run_watch.runs_of(model))

    # ------------------------------------------------------------------ changes
    def changed(self, keys: Iterable[int], compiled: bool = False) -> None:
        """Flags were assigned, or a model was compiled: watches of it may have to begin anew."""
        for watch in list(self._loops.values()):
            if watch.knows(keys):
                watch.disturbed = True
                watch.recompiled = watch.recompiled or compiled
        if compiled:
            self._unknown.clear()

    @never_fails()
    def after_load(self, layer: Any) -> None:
        """Weights were loaded: what moved since the start was not moved by training alone."""
        if self._loops and not self._fits:
            for watch in list(self._loops.values()):
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


_STATE = ZeroTouch()
