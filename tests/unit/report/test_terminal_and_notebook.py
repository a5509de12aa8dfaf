"""The report on a terminal and in a notebook cell."""

from __future__ import annotations

import io
import re
import sys

import pytest

from keras_bnguard.records import ExpectedMode, Mode, RunMode
from keras_bnguard.report import text
from keras_bnguard.report.notebook import as_html
from keras_bnguard.report.terminal import is_terminal, print_report
from tests.builders.reports import (
    DRIFTED,
    IGNORED,
    MENDED,
    SCRIPT,
    Page,
    faulty,
    hostile,
    mode_rows,
    plain,
)

needs_extra = pytest.mark.needs_extra


class Terminal(io.StringIO):
    def isatty(self):
        return True


def bare(written):
    """Without colour."""
    return re.sub("\x1b\\[[0-9;]*m", "", written)


@pytest.fixture
def coloured(monkeypatch):
    """What a person sees on a terminal of 80 columns that knows colours."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "JUPYTER_COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")

    def show(report):
        out = Terminal()
        print_report(report, out)
        return out.getvalue()

    return show


# --------------------------------------------------------------------- terminal
def test_a_pipe_gets_the_plain_text():
    out = io.StringIO()
    print_report(faulty(), out)
    assert out.getvalue() == text.render(faulty())


def test_the_standard_output_is_where_it_goes(capsys):
    print_report(plain())
    assert capsys.readouterr().out == text.render(plain())


def test_a_pipe_that_knows_few_characters_gets_the_rest_escaped():
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii", newline="\n")
    print_report(plain(notes=("Schicht für Schicht",)), out)
    out.flush()
    assert raw.getvalue().endswith(b"Schicht f\\xfcr Schicht\n")


def test_an_object_without_isatty_is_no_terminal():
    closed = io.StringIO()
    closed.close()
    assert not is_terminal(closed)
    assert not is_terminal(object())
    assert is_terminal(Terminal())


def test_a_terminal_without_rich_gets_the_plain_text(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    out = Terminal()
    print_report(faulty(), out)
    assert out.getvalue() == text.render(faulty())


@needs_extra
def test_colour_only_repeats_what_is_written(coloured):
    written = coloured(faulty())
    assert "\x1b[" in written
    assert sorted(bare(written).split()) == sorted(text.render(faulty()).split())


@needs_extra
@pytest.mark.parametrize(
    ("findings", "colour"),
    [((), "32"), ((DRIFTED,), "33"), ((IGNORED, DRIFTED), "31"), ((MENDED,), "32")],
)
def test_the_verdict_is_first_and_in_its_colour(coloured, findings, colour):
    report = plain(*findings)
    first = coloured(report).splitlines()[0]
    assert first.startswith(f"\x1b[1;{colour}m")
    assert bare(first) == f"keras_bnguard: {text.verdict(report)}"


@needs_extra
def test_code_to_type_can_be_copied_whole(coloured):
    written = bare(coloured(plain(IGNORED)))
    assert '      model.compile(optimizer="adam", loss="mse")\n' in written


@needs_extra
def test_rows_that_differ_are_marked_and_no_other(coloured):
    rows = mode_rows()
    assert {row.agrees for row in rows} == {True, False}
    lines = coloured(plain(modes=rows)).splitlines()
    for row in rows:
        (line,) = [line for line in lines if row.path[-7:] in bare(line)]
        assert ("<--" in bare(line), "\x1b[31m" in line) == (not row.agrees, not row.agrees)


@needs_extra
def test_without_a_row_that_differs_nothing_is_marked(coloured):
    rows = tuple(row for row in mode_rows() if row.agrees)
    assert "<--" not in coloured(plain(modes=rows))


@needs_extra
def test_prose_and_table_stay_within_80_columns(coloured):
    long = "backbone/" + "a_long_name/" * 9 + "bn"
    row = Mode(
        long, True, True, ExpectedMode.INFERENCE, "why", RunMode.TRAINING, False, 0.999, False
    )
    written = bare(coloured(plain(IGNORED, modes=(row,), notes=("word " * 60,))))
    assert max(map(len, written.splitlines())) <= 80


@needs_extra
def test_words_in_brackets_are_no_markup_and_escapes_do_not_reach_the_terminal(coloured):
    written = coloured(plain(notes=("[red]a[/red] \x1b[2Jb",)))
    assert "[red]a[/red] \\x1b[2Jb" in bare(written)
    assert "\x1b[2J" not in written


# --------------------------------------------------------------------- notebook
def test_without_jinja2_a_notebook_shows_the_text_escaped(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    shown = as_html(hostile())
    assert SCRIPT not in shown
    page = Page(shown)
    assert [tag for tag, _ in page.tags] == ["pre"]
    assert page.inside("pre") == " ".join(text.render(hostile()).split())


@needs_extra
def test_a_notebook_gets_an_element_with_its_own_style_and_no_script():
    page = Page(as_html(faulty()))
    assert page.tags[0] == ("div", {"class": "bng"})
    assert page.count("style") == 1
    assert page.count("script") == page.count("html") == page.count("body") == 0


@needs_extra
def test_the_style_touches_nothing_else_in_the_notebook():
    style = Page(as_html(plain())).inside("style")
    rules = re.findall(r"(?:^|[{}])\s*([^{}@]+?)\s*\{", style)
    assert len(rules) > 50
    for rule in rules:
        assert all(part.strip().startswith(".bng") for part in rule.split(",")), rule


@needs_extra
def test_a_console_shows_a_report_as_text_and_a_notebook_as_html():
    assert str(faulty()) == text.render(faulty())
    assert repr(faulty()) == f"<Report of net: {text.verdict(faulty())}; print it for all of it>"
    assert faulty()._repr_html_() == as_html(faulty())
