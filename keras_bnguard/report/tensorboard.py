"""Drift and findings for TensorBoard, written by the `tensorboard` package alone."""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from keras_bnguard.errors import MissingExtraError
from keras_bnguard.records import DriftSnapshot
from keras_bnguard.report.grouping import one_line
from keras_bnguard.report.report import Report
from keras_bnguard.report.text import render


def check_tensorboard() -> None:
    """Refuse early.

    Raises:
        MissingExtraError: `tensorboard` is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise MissingExtraError(
            "BNGuard(tensorboard=...) needs the package tensorboard: "
            "pip install 'keras_bnguard[tensorboard]'"
        )


CHARTS = 8
"""The most charts of one measure."""


def _grouped(values: Mapping[str, float]) -> Dict[str, float]:
    """Name of a chart -> the largest value of its layers, in the order of the model."""
    paths = list(values)
    if len(paths) <= CHARTS:
        return {one_line(path): value for path, value in values.items()}
    cuts = [len(paths) * i // CHARTS for i in range(CHARTS + 1)]
    found = {}
    for number, (begin, end) in enumerate(zip(cuts, cuts[1:]), 1):
        name = one_line(f"{number} {paths[begin]} to {paths[end - 1]}".replace("/", "."))
        group = [values[path] for path in paths[begin:end]]
        found[name] = next((value for value in group if value != value), max(group))  # NaN wins.
    return found


class DriftWriter:
    """One event file: scalars for each layer at each check, the findings as text at the end.

    Scalars against the training step: `bn_drift` (largest Bhattacharyya distance of any BN), and
    by layers `bn_distance/...` (the same), `bn_mean_shift/...` (standard deviations) and
    `bn_log_variance_ratio/...` (natural logarithm). Where there are more than `CHARTS` BN,
    neighbours share a chart, which has the largest value of any of them. The file appears at
    the first check and is flushed at each one, so that a killed run keeps what was written.

    Args:
        folder: log directory. One with a scheme (`gs://...`) gets tensorboard's own writer.

    Raises:
        MissingExtraError: `tensorboard` is not installed.
    """

    def __init__(self, folder: Any) -> None:
        check_tensorboard()
        self._folder = os.fspath(folder)
        self._writer: Optional[Any] = None
        self._step = -1

    def write(self, drift: DriftSnapshot) -> None:
        """Write the drift at one check; checks without a step between them are one apart."""
        self._step = max(drift.steps, self._step + 1)
        scalars: Dict[str, float] = {"bn_drift": drift.total}
        for tag, values in (
            ("bn_distance", drift.distance),
            ("bn_mean_shift", drift.mean_shift),
            ("bn_log_variance_ratio", drift.log_variance_ratio),
        ):
            scalars.update((f"{tag}/{name}", value) for name, value in _grouped(values).items())
        self._add([{"tag": tag, "simple_value": value} for tag, value in scalars.items()])

    def finish(self, report: Report) -> None:
        """Write the report as text, and close the file."""
        # Four spaces in: Markdown leaves names and code as they are.
        text = "".join(f"    {line}\n" for line in render(report).split("\n"))
        self._add(
            [
                {
                    "tag": "keras_bnguard",
                    "metadata": {"plugin_data": {"plugin_name": "text"}},
                    "tensor": {
                        "dtype": "DT_STRING",
                        "string_val": [text.encode("utf-8")],
                        "tensor_shape": {"dim": [{"size": 1}]},
                    },
                }
            ]
        )
        self.close()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _add(self, values: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._writer is None:
            self._writer = _writer(self._folder)
        event = Event(wall_time=time.time(), step=max(self._step, 0), summary=Summary(value=values))
        self._writer.add(event)
        self._writer.flush()


def _writer(folder: str) -> Any:
    return _Remote(folder) if "://" in folder else _Local(folder)


class _Local:
    """tensorboard's record format in a plain file: its event writer would load TensorFlow."""

    def __init__(self, folder: str) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        Path(folder).mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{time.time():017.6f}.{os.getpid()}.bnguard"
        self._records = RecordWriter(open(os.path.join(folder, name), "wb"))  # noqa: SIM115
        self.add(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, event: Any) -> None:
        self._records.write(event.SerializeToString())

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.close()


class _Remote:
    """tensorboard's own writer: it knows remote file systems."""

    def __init__(self, folder: str) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._events = EventFileWriter(folder, filename_suffix=".bnguard")

    def add(self, event: Any) -> None:
        self._events.add_event(event)

    def flush(self) -> None:
        self._events.flush()

    def close(self) -> None:
        self._events.close()
