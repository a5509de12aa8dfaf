"""Reports, made of records and nothing else."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Union

from keras_bnguard.errors import MissingExtraError, SettingError
from keras_bnguard.records import Report

FORMATS = ("text", "json", "github")
"""What `--output-format` takes."""

# Longest first: `.sarif.json` is SARIF.
ENDINGS = {
    ".sarif.json": "sarif",
    ".json": "json",
    ".html": "html",
    ".sarif": "sarif",
    ".txt": "text",
}


def write_report(
    report: Optional[Report],
    path: Union[str, os.PathLike[str]],
    phases: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write a report to a file; its ending picks the form. Missing folders are made.

    Args:
        report: the report; None writes nothing.
        path: a file name that ends in .json, .html, .sarif (or .sarif.json) or .txt.
        phases: `PhaseScheduler.history`, one row per epoch, shown in HTML.

    Raises:
        SettingError: another ending.
        MissingExtraError: .html without jinja2.
    """
    form = check_report_path(path)
    if report is None:
        return
    text = rendered(report, form, phases)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # A name that is no valid Unicode must not cost the report.
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.write(text)


def check_report_path(path: Union[str, os.PathLike[str]]) -> str:
    """The form that a file name asks for: "json", "html", "sarif" or "text".

    Raises:
        SettingError: no form has this ending.
        MissingExtraError: .html without jinja2.
    """
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
    for ending, form in ENDINGS.items():
        if name.lower().endswith(ending):
            if form == "html" and importlib.util.find_spec("jinja2") is None:
                raise MissingExtraError(
                    f"report={name!r} needs the package jinja2: pip install 'keras_bnguard[report]'"
                )
            return form
    known = ", ".join(e for e in ENDINGS if e != ".sarif.json")
    raise SettingError(f"report={path!r}: expected a file name that ends in {known}.")


def rendered(report: Report, form: str, phases: Sequence[Mapping[str, Any]] = ()) -> str:
    """A report as text. form: "text", "json", "github", "html" or "sarif"."""
    module: Any = importlib.import_module(f"keras_bnguard.report.{form}")
    return str(module.render(report, phases) if form == "html" else module.render(report))
