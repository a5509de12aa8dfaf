"""Where the results of a run are written: a report file, and TensorBoard."""

from __future__ import annotations

import contextlib
from typing import Optional

from keras_bnguard.arguments import check_path
from keras_bnguard.backends.call_stack import warn_user
from keras_bnguard.backends.processes.voice import speaks
from keras_bnguard.errors import BNGuardWarning
from keras_bnguard.records import DriftSnapshot
from keras_bnguard.report.files import check_writable, not_written
from keras_bnguard.report.formats import format_of
from keras_bnguard.report.report import Report
from keras_bnguard.report.tensorboard import DriftWriter, check_tensorboard


class ReportSink:
    """The files that a `BNGuard` writes; of several processes the chief alone writes them.

    Args:
        path: of the report, None for none.
        tensorboard: log directory of TensorBoard, None for none.

    Raises:
        SettingError: the ending of `path` is of no format, or no file can be written there.
        MissingExtraError: a package that is needed is not installed.
    """

    def __init__(self, path: Optional[str], tensorboard: Optional[str]) -> None:
        if path is not None:
            format_of(path)
            check_writable(path)
        if tensorboard is not None:
            check_path("tensorboard", tensorboard, "the path of a log directory")
            check_tensorboard()
        self._path = path
        self._tensorboard = tensorboard
        self._writer: Optional[DriftWriter] = None

    def write_drift(self, drift: DriftSnapshot) -> None:
        """Write the drift at a check to TensorBoard."""
        if self._tensorboard is None or not speaks():
            return
        if self._writer is None:
            self._writer = DriftWriter(self._tensorboard)
        self._writer.write(drift)

    def finish(self, report: Report) -> None:
        """Write the report of a run that has ended."""
        if self._writer is not None:
            self._writer.finish(report)
            self._writer = None
        self.rewrite(report)

    def rewrite(self, report: Report) -> None:
        """Write the report file again; where that fails, one warning names it."""
        if self._path:
            save_or_warn(report, self._path)


def save_or_warn(report: Report, path: str) -> None:
    """Write a report, in the chief only; where it cannot be written, a `BNGuardWarning` is given,
    which is never raised.

    Args:
        report: the report.
        path: the file.
    """
    if not speaks():
        return
    try:
        report.save(path)
    except OSError as error:
        with contextlib.suppress(BNGuardWarning):
            warn_user(f"keras_bnguard: {not_written(path, error)}.")
