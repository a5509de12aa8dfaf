"""Reports on a terminal: coloured where `rich` is installed, plain where the output is piped."""

from __future__ import annotations

import importlib.util
import sys
from typing import IO, Any, Optional, Set

from keras_bnguard.records import Finding, Report
from keras_bnguard.report import text
from keras_bnguard.report.grouping import grouped, one_line, printable, trust

STYLES = {"error": "bold red", "warning": "bold yellow", "clear": "bold green", "info": "bold blue"}


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
    encoding = getattr(out, "encoding", None) or "utf-8"
    out.write(text.render(report).encode(encoding, "backslashreplace").decode(encoding))


def is_terminal(file: Any) -> bool:
    """Whether a person reads it as it comes; False for what cannot say."""
    try:
        return bool(file.isatty())
    except (AttributeError, ValueError):
        return False


def print_rich(report: Report, console: Any) -> None:
    """Print a report on a `rich.console.Console`.

    Colour only repeats what the words say. Code to type is not wrapped and not framed, so that
    it can be copied.
    """
    from rich.text import Text

    width = min(console.width, 100)

    def say(words: str, style: str = "", indent: int = 0) -> None:
        for line in text.wrap(printable(words), " " * indent, " " * indent, width):
            console.print(Text(line, style), soft_wrap=True)

    def type_this(fix: str, indent: int) -> None:
        for i, line in enumerate(printable(fix).split("\n")):
            start = Text(" " * indent)
            start.append("fix: " if i == 0 else "", "bold")
            start.append(line, "cyan" if line.startswith("    ") else "")
            console.print(start, soft_wrap=True)

    said: Set[str] = set()

    def show(finding: Finding, indent: int, lead: str = "") -> None:
        title = Text(" " * indent + lead)
        title.append(one_line(finding.code), STYLES.get(finding.severity, "bold"))
        title.append(f" {one_line(finding.name)}", "bold")
        title.append(f" [{one_line(finding.severity)}]", STYLES.get(finding.severity, "bold"))
        console.print(title, soft_wrap=True)
        if finding.source:
            say(f"at {one_line(finding.source)}", "dim", indent + 2)
        say(finding.message, "", indent + 2)
        if finding.repaired:
            say(f"repaired: {finding.repaired}", "green", indent + 2)
        known = "\n" in finding.fix and finding.fix in said
        said.add(finding.fix)
        if finding.fix:
            type_this("as above" if known else finding.fix, indent + 2)

    say(f"keras_bnguard: {text.verdict(report)}", STYLES[trust(report)])
    say(text.about(report), "dim")
    console.print()
    for group in grouped(report.findings):
        show(group.cause, 0)
        for effect in group.effects:
            console.print()
            show(effect, 2, "which led to ")
        console.print()
    if report.modes:
        console.print(_modes(report, width))
        if not all(mode.agrees for mode in report.modes):
            say("<-- is not what was meant", "dim")
        console.print()
    for repair in report.repairs:
        say(f"repair {repair}", "green")
    for line in text.facts(report):
        say(line, "dim")
    for note in report.notes:
        say(note, "bold")


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
