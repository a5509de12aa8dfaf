"""How a process under `bnguard run` ends: findings are printed and written once, by SIGTERM too."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, Any, Optional

from keras_bnguard.cli.children import Children
from keras_bnguard.cli.run_summary import print_summary
from keras_bnguard.report.formats import Format

if TYPE_CHECKING:  # The script has not loaded NumPy yet, and may never do.
    from keras_bnguard.auto import AutoWarnings


class Ending:
    """Prints and writes what was found, in the process that was started and in no fork of it.

    Args:
        state: the automatic warnings of this process.
        form: the format to print in, None to print nothing.
        full: whether to print the whole report. Defaults to False: a summary.
        children: the Python processes that this one starts, None where they are not followed.
    """

    def __init__(
        self,
        state: AutoWarnings,
        form: Optional[Format],
        full: bool = False,
        children: Optional[Children] = None,
    ) -> None:
        self._state = state
        self._form = form
        self._full = full
        self._children = children

    def finish(self) -> None:
        """Make complete what is known of this process and of its children."""
        self._state.finish()
        if self._children is not None:
            self._children.collect(self._state)

    def listen(self) -> None:
        """Be called at SIGTERM, which clusters send, where it would end the process.

        A handler that the script sets takes the place of this one.
        """
        in_main_thread = threading.current_thread() is threading.main_thread()
        if os.name != "posix" or not in_main_thread:
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._terminate)
            os.register_at_fork(after_in_child=self._stop_listening)

    def exit(self) -> None:
        """Python ends."""
        self._stop_listening()
        if not self._state.is_forked:
            self._print(unfinished=False)

    def _terminate(self, number: int, frame: Any) -> None:
        if not self._listens():
            return  # A handler of the script has taken over, and calls the one before it.
        self._stop_listening()
        try:
            self._print(unfinished=True)
        finally:
            os.kill(os.getpid(), number)

    def _print(self, unfinished: bool) -> None:
        started: Optional[int] = None
        if self._children is not None:
            self._children.collect(self._state)
            started = self._children.started
            self._children.close()
        print_summary(self._state, self._form, unfinished, self._full, started)

    def _listens(self) -> bool:
        return signal.getsignal(signal.SIGTERM) == self._terminate

    def _stop_listening(self) -> None:
        if self._listens():
            with contextlib.suppress(ValueError):  # Not in the main thread.
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
