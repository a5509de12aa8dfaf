"""Automatic warnings: on and off, and who is called when Keras is used."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, Callable, Iterable, List, Optional, Tuple

from keras_bnguard.auto.fits import Fits
from keras_bnguard.auto.import_hook import ImportHook
from keras_bnguard.auto.inferences import Inferences
from keras_bnguard.auto.loops import Loops, nothing
from keras_bnguard.auto.outside import Outside
from keras_bnguard.auto.run_log import RunLog, ignore
from keras_bnguard.backends.call_stack import warn_user
from keras_bnguard.backends.known_stacks import PACKAGES
from keras_bnguard.errors import BNGuardError, BNGuardWarning, FindingError, fail_safe
from keras_bnguard.settings import Settings

if TYPE_CHECKING:  # Loading the records loads NumPy, before the script has asked for it.
    from keras_bnguard.records.ids import LayerId
    from keras_bnguard.report.report import Report
    from keras_bnguard.report.several import MergedRuns


class AutoWarnings:
    """All that is known while warnings are on. One per process; tests may make more.

    It is the `Watcher` of `backends.global_hooks`.
    """

    def __init__(self) -> None:
        self.log = RunLog()
        self.barrier = self.log.barrier
        self.fits = Fits(self.log)
        self.loops = Loops(self.log, self.fits, self._finish_at_exit)
        self.inferences = Inferences(self.log, self.fits)
        self.outside = Outside(self.log, self.fits, self._finish_at_exit)
        self._at_exit = False
        self._process = os.getpid()
        self._hook = ImportHook(self._keras_imported)

    # ------------------------------------------------------------------ on, off
    def enable(
        self,
        settings: Settings,
        by_warning: bool,
        collected: Callable[[Report], None] = ignore,
    ) -> None:
        """Turn warnings on, or go on with other settings.

        Args:
            settings: the settings from now on.
            by_warning: whether a finding is a `BNGuardWarning` where `settings.on_finding` is
                None; otherwise it is only collected.
            collected: gets each report of a run that has ended. Defaults to nothing.
        """
        if settings.report:  # The script may go to another folder before it is written.
            settings = settings._replace(report=os.path.abspath(settings.report))
        log = self.log
        with log.lock:
            log.settings = settings
            log.by_warning = by_warning
            log.collected = collected
            self._process = os.getpid()
            if not log.on:
                log.clear()
            log.on = True
            if settings.report and by_warning:
                self._finish_at_exit()
            self._hook.put()
            if any(package in sys.modules for package in PACKAGES):
                self._keras_imported()

    @fail_safe()
    def _keras_imported(self) -> None:
        from keras_bnguard.backends import global_hooks

        with self.log.lock:
            if self.log.on:
                global_hooks.install(self)

    def disable(self) -> None:
        """Turn warnings off, after a last check of every monitored loop."""
        with self.log.lock:
            self._hook.take_away()
            if not self.log.on:
                return
            self.finish()
            self.log.on = False
            global_hooks = sys.modules.get("keras_bnguard.backends.global_hooks")
            if global_hooks is not None:
                global_hooks.uninstall()

    @fail_safe()
    def finish(self) -> None:
        """Check every loop a last time; their reports are complete then."""
        self.loops.finish()
        self.outside.judge()

    def _finish_at_exit(self) -> None:
        # Registered after the frameworks were imported, so that it runs before they are gone.
        if not self._at_exit:
            self._at_exit = True
            atexit.register(self._exit)

    def _exit(self) -> None:
        if self.log.on and self.log.by_warning and not self.is_forked:
            with contextlib.suppress(FindingError):
                self.finish()
            self._write()

    @fail_safe()
    def _write(self) -> None:
        if self.settings.report:
            from keras_bnguard.guard.report_sink import save_or_warn

            save_or_warn(self.all_runs().report(self.unseen), self.settings.report)

    # ------------------------------------------------------------ what is known
    @property
    def is_forked(self) -> bool:
        """Whether this process is a fork of the one that is watched; it prints nothing."""
        return os.getpid() != self._process

    @property
    def settings(self) -> Settings:
        """The settings that count now."""
        return self.log.settings

    @property
    def faults(self) -> List[str]:
        """Internal errors, with their tracebacks."""
        return self.barrier.faults

    @property
    def unseen(self) -> Tuple[str, ...]:
        """What could not be seen, one line each."""
        return tuple(sorted({*self.log.missing, *self.log.unseen}))

    def reports(self) -> List[Report]:
        """Those of runs that have ended, then those of loops that are running."""
        with self.log.lock:
            return [*self.log.reports, *self.loops.reports()]

    def all_runs(self, unfinished: bool = False) -> MergedRuns:
        """All runs since warnings were enabled, added up; also those that `reports` has no more.

        Args:
            unfinished: also each `fit` that is running, as far as it is known. Defaults to False.
        """
        with self.log.lock:
            running = self.fits.reports() if unfinished else []
            return self.log.all_runs([*self.reports(), *running])

    # ------------------------------------------------------------ what Keras is used for
    def around_fit(self, model: Any, callbacks: Any) -> Tuple[Any, Callable[[], None]]:
        """The callbacks to run `fit` with, and what to call when it is left."""
        if not self.log.on:
            return callbacks, nothing
        try:
            if self.log.unwatchable():
                return callbacks, nothing
            self.loops.before_fit(model)
            self.outside.judge()
            callbacks, left = self.fits.enter(model, callbacks)
        except FindingError:
            raise
        except Exception as error:
            self.barrier.note(error)
            return callbacks, nothing

        def done() -> None:
            self.outside.after_fit(model)
            left()

        return callbacks, done

    def before_call(self, model: Any) -> Optional[Callable[[], None]]:
        """Before a call with `training=True`; returns what to call after it, None for nothing."""
        return self.outside.before(model)

    def before_batch(self, model: Any) -> Tuple[Any, Callable[[], None]]:
        """Before a `train_on_batch`; returns (a context for it, what to call after it)."""
        self.outside.before_step()
        return self.loops.before_batch(model)

    def before_inference(self, model: Any, name: str) -> Callable[[], None]:
        """Before `evaluate` or `predict`; returns what to call after it."""
        return self.inferences.before(model, name)

    def before_apply(self, optimizer: Any, variables: Any, stateless: bool) -> None:
        """Before an optimizer's step."""
        self.outside.before_step()
        self.loops.before_apply(optimizer, variables, stateless)

    def after_apply(self, optimizer: Any) -> None:
        """After it."""

    def not_watched(self, what: str, error: Exception) -> None:
        """A part of a Keras, or a whole one, cannot be watched."""
        if not self.log.note_missing(f"{what}: {error}"):
            return
        if not isinstance(error, BNGuardError):
            self.barrier.note(error)
        elif self.log.by_warning:
            with contextlib.suppress(BNGuardWarning):
                warn_user(str(error))

    def changed(self, keys: Iterable[LayerId], compiled: bool = False) -> None:
        """Flags were assigned, or a model was compiled."""
        self.loops.changed(keys, compiled)

    @fail_safe()
    def after_load(self, layer: Any) -> None:
        """Weights were loaded into a layer or a model."""
        self.outside.forget()
        self.loops.after_load(layer)
