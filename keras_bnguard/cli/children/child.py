"""In a Python process that a script under `bnguard run` has started: watch, and hand over."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import pickle
import secrets
import signal
import threading
from pathlib import Path
from typing import Any

from keras_bnguard.auto import AutoWarnings, collect_findings
from keras_bnguard.auto.options import project_settings
from keras_bnguard.backends.processes.voice import place_in_training
from keras_bnguard.cli.children import VARIABLE, Found


def start() -> None:
    """Watch what this process trains, as the one above was asked to."""
    handed = json.loads(os.environ[VARIABLE])
    folder = Path(handed["folder"])
    if not folder.is_dir():
        return  # The process above has ended.
    name = f"{os.getpid()}-{secrets.token_hex(4)}"
    (folder / f"{name}.started").touch()
    settings = project_settings(handed["given"])._replace(report=None, on_finding=None)
    state = collect_findings(settings, collected=_note_place)
    handing = Handing(state, folder / name)
    atexit.register(handing.over)
    handing.listen()


def _note_place(report: Any) -> None:
    """At the end of the process its place may no longer be known."""
    place_in_training()


class Handing:
    """Writes what was found, once: when Python ends, or by SIGTERM, as torchrun sends it.

    Args:
        state: the automatic warnings of this process.
        path: of the file, without its ending.
    """

    def __init__(self, state: AutoWarnings, path: Path) -> None:
        self._state = state
        self._path = path
        self._process = os.getpid()

    def listen(self) -> None:
        """Be called at SIGTERM where it would end the process."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        if os.name != "posix" or not in_main_thread:
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._terminate)
            os.register_at_fork(after_in_child=self._forget)

    def over(self, unfinished: bool = False) -> None:
        """Write what was found so far; the file appears whole or not at all.

        Args:
            unfinished: a `fit` may be running. Defaults to False.
        """
        if os.getpid() != self._process:
            return
        with contextlib.suppress(Exception):
            if not unfinished:
                self._state.finish()
            place = place_in_training()
            reports = self._state.reports()
            if unfinished:
                reports = [self._state.all_runs(unfinished=True).report()] if reports else []
            found = Found(
                place.rank, place.count, reports, self._state.unseen, list(self._state.faults)
            )
            partial = self._path.with_suffix(".partial")
            partial.write_bytes(pickle.dumps(found))
            os.replace(partial, self._path.with_suffix(".found"))

    def _terminate(self, number: int, frame: Any) -> None:
        self._forget()
        try:
            self.over(unfinished=True)
        finally:
            os.kill(os.getpid(), number)

    def _forget(self) -> None:
        if signal.getsignal(signal.SIGTERM) == self._terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
