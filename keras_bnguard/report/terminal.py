"""Reports on a terminal: coloured where `rich` is installed, plain where the output is piped."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from typing import IO, Any, Optional, Sequence, Set

from keras_bnguard.records import Finding
from keras_bnguard.report import text
from keras_bnguard.report.grouping import grouped, one_line, printable, trust
from keras_bnguard.report.report import Report

STYLES = {"error": "bold red", "warning": "bold yellow", "clear": "bold green", "info": "bold blue"}
STYLES["repaired"] = STYLES["clear"]


def print_report(report: Report, file: Optional[IO[str]] = None) -> None:
    """Print a report, in colour where `file` is a terminal and `rich` is installed.

    Args:
        report: what to print.
        file: where to. Defaults to the standard output.
    """
    out: Any = sys.stdout if file is None else file
    if is_terminal(out) and importlib.util.find_spec("rich") is not None:
        from rich.console import Console

        print_rich(report, Console(file=out, highlight=False))
        return
    _write(out, text.render(report))


def _write(out: Any, words: str) -> None:
    encoding = getattr(out, "encoding", None) or "utf-8"
    out.write(words.encode(encoding, "backslashreplace").decode(encoding))


def is_terminal(file: Any) -> bool:
    """Whether a person reads it as it comes; False for what has no `isatty`."""
    try:
        return bool(file.isatty())
    except (AttributeError, ValueError):
        return False


def print_brief(report: Report, runs: int, last: Sequence[str], file: Optional[IO[str]]) -> None:
    """Print `text.brief`, in colour where `file` is a terminal and `rich` is installed."""
    out: Any = sys.stdout if file is None else file
    if is_terminal(out) and importlib.util.find_spec("rich") is not None:
        from rich.console import Console

        page = _Page(Console(file=out, highlight=False))
        count = f"{runs} {'run' if runs == 1 else 'runs'} of " if runs else ""
        page.head(report, f"{count}{text.about(report)}")
        open_ = replace(report, findings=report.warnings_and_errors)
        page.findings(open_)
        for line in (*text.brief_end(report), *last):
            page.write(line, "dim")
        if open_.findings:
            page.write(f"bnguard: {text.verdict(report)}", STYLES[trust(report)])
        return
    _write(out, text.brief(report, runs, last))


def print_rich(report: Report, console: Any) -> None:
    """Print a report on a `rich.console.Console`.

    Colour only repeats what is written. Code to type is not wrapped and not framed, so that
    it can be copied.
    """
    page = _Page(console)
    page.head(report, text.about(report))
    page.findings(report)
    if report.modes:
        console.print(_modes(report, page.width))
        if not all(mode.agrees for mode in report.modes):
            page.write("<-- differs from what is expected", "dim")
        console.print()
    for repair in report.repairs:
        page.write(f"repair {repair}", "green")
    for line in text.facts(report):
        page.write(line, "dim")
    for note in report.notes:
        page.write(note, "bold")


class _Page:
    """A rich console, and the fixes that were printed on it."""

    def __init__(self, console: Any) -> None:
        from rich.text import Text

        self.console = console
        self.width = min(console.width, 100)
        self._text: Any = Text
        self._printed: Set[str] = set()

    def write(self, words: str, style: str = "", indent: int = 0) -> None:
        for line in text.wrap(printable(words), " " * indent, " " * indent, self.width):
            self.console.print(self._text(line, style), soft_wrap=True)

    def head(self, report: Report, about: str) -> None:
        self.write(f"keras_bnguard: {text.verdict(report)}", STYLES[trust(report)])
        self.write(about, "dim")
        self.console.print()

    def findings(self, report: Report) -> None:
        for group in grouped(report.findings):
            self._show(group.cause, 0)
            for effect in group.effects:
                self.console.print()
                self._show(effect, 2, "which led to ")
            self.console.print()

    def _show(self, finding: Finding, indent: int, lead: str = "") -> None:
        title = self._text(" " * indent + lead)
        state = finding.severity if finding.repaired is None else "repaired"
        color = STYLES.get(state, "bold")
        title.append(one_line(finding.code), color)
        title.append(f" {one_line(finding.name)}", "bold")
        title.append(f" [{one_line(state)}]", color)
        self.console.print(title, soft_wrap=True)
        if finding.source:
            self.write(f"at {one_line(finding.source)}", "dim", indent + 2)
        if finding.repaired is not None:
            self.write(f"repaired: {finding.repaired}", "green", indent + 2)
            self.write(f"before the repair: {finding.message}", "dim", indent + 2)
            return
        self.write(finding.message, "", indent + 2)
        known = "\n" in finding.fix and finding.fix in self._printed
        self._printed.add(finding.fix)
        if finding.fix:
            self._type_this("as above" if known else finding.fix, indent + 2)

    def _type_this(self, fix: str, indent: int) -> None:
        for i, line in enumerate(printable(fix).split("\n")):
            if line.startswith("    "):
                self.console.print(self._text(" " * indent + line, "cyan"), soft_wrap=True)
            else:
                self.write(f"fix: {line}" if i == 0 else line, "bold", indent)


def _modes(report: Report, width: int) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for name in text.HEADER:
        table.add_column(name, no_wrap=True)
    for row in text.table_rows(report, len(report.modes) > text.MANY, width):
        styles = ["", "", "", "red" if "<--" in row[3] else "", "", ""]
        table.add_row(*map(Text, row, styles))
    return table
