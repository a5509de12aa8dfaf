"""Writing a report to a file, and that every form takes any report."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given, settings

from keras_bnguard.errors import MissingExtraError, SettingError
from keras_bnguard.report import check_report_path, github, json, sarif, text, write_report
from tests.builders.reports import PHASES, faulty, hostile, plain, reports, strict

PLAIN = {"text": text.render, "json": json.render, "sarif": sarif.render, "github": github.render}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("r.json", "json"),
        ("r.txt", "text"),
        ("r.sarif", "sarif"),
        ("r.sarif.json", "sarif"),
        ("R.JSON", "json"),
        ("a.json/r.txt", "text"),
        pytest.param("r.html", "html", marks=pytest.mark.needs_extra),
    ],
)
def test_the_ending_says_the_form(tmp_path, name, form):
    assert check_report_path(name) == form
    assert check_report_path(tmp_path / name) == form


@pytest.mark.parametrize("name", ["r.pdf", "r.html.pdf", "r", ".", "", "json", None, 3, b"r.json"])
def test_another_ending_is_refused_and_the_known_ones_are_named(name):
    with pytest.raises(SettingError, match=r"ends in \.json, \.html, \.sarif, \.txt\."):
        check_report_path(name)


def test_a_refused_report_writes_no_file_and_no_folder(tmp_path):
    with pytest.raises(SettingError, match=r"r\.pdf"):
        write_report(plain(), tmp_path / "new" / "r.pdf")
    assert not list(tmp_path.iterdir())


def test_html_without_jinja2_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'keras_bnguard\[report\]'"):
        write_report(plain(), tmp_path / "new" / "r.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["r.json", "r.sarif", "r.sarif.json"])
def test_missing_folders_are_made_and_the_file_can_be_read(tmp_path, name):
    path = tmp_path / "a" / "b" / name
    write_report(faulty(), path)
    form = "sarif" if "sarif" in name else "json"
    assert strict(path.read_text(encoding="utf-8")) == strict(PLAIN[form](faulty()))


def test_text_is_the_text_with_unix_line_ends(tmp_path):
    write_report(faulty(), tmp_path / "r.txt")
    assert (tmp_path / "r.txt").read_bytes() == text.render(faulty()).encode()


@pytest.mark.needs_extra
def test_html_shows_the_phases(tmp_path):
    write_report(faulty(), tmp_path / "r.html", PHASES)
    written = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert written.startswith("<!DOCTYPE html>")
    assert "head only" in written


def test_an_older_report_is_replaced(tmp_path):
    path = tmp_path / "r.txt"
    path.write_text("x" * 10_000)
    write_report(plain(), path)
    assert path.read_text() == text.render(plain())


def test_a_name_that_is_no_valid_unicode_does_not_cost_the_report(tmp_path):
    write_report(plain(notes=("bn\ud800",)), tmp_path / "r.txt")
    assert "bn\\ud800" in (tmp_path / "r.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("form", PLAIN)
@given(report=reports)
@settings(max_examples=40)
def test_every_form_takes_any_report(form, report):
    written = PLAIN[form](report)
    written.encode("utf-8")
    assert "\x1b" not in written
    assert PLAIN[form](report) == written


@pytest.mark.parametrize("form", PLAIN)
def test_names_that_look_like_markup_are_no_trouble(form):
    assert PLAIN[form](hostile())


@pytest.mark.needs_extra
@given(report=reports)
@settings(max_examples=40)
def test_a_coloured_terminal_and_a_notebook_take_any_report(report):
    from rich.console import Console

    from keras_bnguard.report.notebook import mimebundle
    from keras_bnguard.report.terminal import print_rich

    print_rich(report, Console(file=io.StringIO(), force_terminal=True, width=60))
    assert set(mimebundle(report, PHASES)) == {"text/plain", "text/html"}
