"""The registry of report formats: what each is called, how it is chosen, where it is rendered.

A new format is one module with `render(report)` and one entry in `FORMATS`. File endings, the
choices of `--output-format`, error messages and help texts are read from here.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Mapping, Optional, Sequence, Tuple

from keras_bnguard.errors import MissingExtraError, SettingError
from keras_bnguard.report.files import PathLike, write_text

if TYPE_CHECKING:  # The records load NumPy, and this registry is read before a script does.
    from keras_bnguard.report.report import Report

Phases = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Format:
    """One format of a report.

    Attributes:
        name: its name, as `--output-format` takes it; also the module in this package that
            has `render(report) -> str`.
        endings: file endings it is saved under, the usual one first; empty for a format that
            is only printed.
        printed: whether `--output-format` offers it. Defaults to False.
        package: the optional package it needs. Defaults to None: none.
        shows_phases: whether `render` takes `PhaseScheduler.history` as second argument.
            Defaults to False.
    """

    name: str
    endings: Tuple[str, ...] = ()
    printed: bool = False
    package: Optional[str] = None
    shows_phases: bool = False

    @property
    def available(self) -> bool:
        """Whether the optional package it needs, if any, is installed."""
        return self.package is None or importlib.util.find_spec(self.package) is not None

    def require(self) -> None:
        """Refuse early, before a long training.

        Raises:
            MissingExtraError: the optional package of this format is not installed.
        """
        if not self.available:
            raise MissingExtraError(
                f"a report in {self.name} needs the package {self.package}: "
                "pip install 'keras_bnguard[report]'"
            )

    def render(self, report: Report, phases: Phases = ()) -> str:
        """The report as text of this format.

        Args:
            report: the report.
            phases: `PhaseScheduler.history`, one row per epoch; left out by formats that do
                not show it. Defaults to no rows.

        Raises:
            MissingExtraError: the optional package of this format is not installed.
        """
        self.require()
        module: Any = importlib.import_module(f"keras_bnguard.report.{self.name}")
        rendered = (
            module.render(report, phases or report.phases)
            if self.shows_phases
            else module.render(report)
        )
        return str(rendered)

    def save(self, report: Report, path: PathLike, phases: Phases = ()) -> None:
        """Write the report to a file in UTF-8 with Unix line ends; missing folders are made.

        Args:
            report: the report.
            path: the file; one that exists is replaced when the new one is complete.
            phases: as in `render`.

        Raises:
            MissingExtraError: the optional package of this format is not installed.
            OSError: the file cannot be written.
        """
        write_text(path, self.render(report, phases))

    def print(self, report: Report, file: Optional[IO[str]] = None) -> None:
        """Print the report.

        Args:
            report: the report.
            file: where to. Defaults to the standard output.
        """
        print(self.render(report), end="", file=sys.stdout if file is None else file)

    def print_summary(
        self, report: Report, runs: int, last: Sequence[str], file: Optional[IO[str]] = None
    ) -> None:
        """Print what `bnguard run` ends with; formats for programs print the whole report.

        Args:
            report: all runs of the process as one report.
            runs: how many runs that is.
            last: lines for people, printed at the end.
            file: where to. Defaults to the standard output.
        """
        self.print(report, file)

    def note(self, text: str, file: Optional[IO[str]] = None) -> None:
        """Print a line for people; formats for programs leave it out."""


class TextFormat(Format):
    """Plain text: the format for people, in colour where the output is a terminal."""

    def print(self, report: Report, file: Optional[IO[str]] = None) -> None:
        from keras_bnguard.report.terminal import print_report

        print_report(report, file)

    def print_summary(
        self, report: Report, runs: int, last: Sequence[str], file: Optional[IO[str]] = None
    ) -> None:
        from keras_bnguard.report.terminal import print_brief

        print_brief(report, runs, last, file)

    def note(self, text: str, file: Optional[IO[str]] = None) -> None:
        print(text, file=sys.stdout if file is None else file)


TEXT = TextFormat("text", (".txt",), printed=True)
FORMATS: Tuple[Format, ...] = (
    TEXT,
    Format("json", (".json",), printed=True),
    Format("github", printed=True),
    Format("concise", printed=True),
    Format("html", (".html",), package="jinja2", shows_phases=True),
    Format("sarif", (".sarif", ".sarif.json")),
)
"""Every format of a report."""

PRINTED: Tuple[str, ...] = tuple(each.name for each in FORMATS if each.printed)
"""Names that `--output-format` takes."""

ENDINGS: Tuple[str, ...] = tuple(sorted(each.endings[0] for each in FORMATS if each.endings))
"""The usual file ending of each format that can be saved."""


def format_named(name: str) -> Format:
    """The format of that name.

    Raises:
        KeyError: no format has this name.
    """
    return {each.name: each for each in FORMATS}[name]


def format_of(path: PathLike) -> Format:
    """The format that a file name asks for by its ending, in any case.

    Args:
        path: a file name; the longest ending that fits counts, so `.sarif.json` is SARIF.

    Raises:
        SettingError: no format has this ending.
        MissingExtraError: the optional package of the format is not installed.
    """
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
    found = [
        (len(ending), each)
        for each in FORMATS
        for ending in each.endings
        if name.lower().endswith(ending)
    ]
    if not found:
        raise SettingError(
            f"report={path!r}: expected a file name that ends in {', '.join(ENDINGS)}."
        )
    chosen = max(found, key=lambda pair: pair[0])[1]
    chosen.require()
    return chosen
