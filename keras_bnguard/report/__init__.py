"""Reports, made of records and nothing else."""

from __future__ import annotations

from typing import Optional

from keras_bnguard.errors import SettingError
from keras_bnguard.records import Report


def write_report(report: Optional[Report], path: str) -> None:
    """Write a report to a file; its ending picks the form.

    Raises:
        SettingError: the ending is not one of those known: .json, .txt.
    """
    if report is None:
        return
    from keras_bnguard.report import json as as_json
    from keras_bnguard.report import text

    writers = {".json": as_json.render, ".txt": text.render}
    for ending, render in writers.items():
        if str(path).endswith(ending):
            with open(path, "w", encoding="utf-8") as file:
                file.write(render(report))
            return
    raise SettingError(f"report={path!r}: expected a file name that ends in {', '.join(writers)}.")
