"""The registry of formats: endings, optional packages, saving, printing."""

from __future__ import annotations

import importlib
import io
import pkgutil
import sys

import pytest
from hypothesis import given, settings

from keras_bnguard import report as package
from keras_bnguard.errors import MissingExtraError, SettingError
from keras_bnguard.report.formats import (
    ENDINGS,
    FORMATS,
    PRINTED,
    TEXT,
    format_named,
    format_of,
)
from tests.builders.reports import PHASES, faulty, hostile, plain, reports, strict


def name_of(form):
    return form.name


PLAIN = [form for form in FORMATS if form.package is None]
"""Formats that need no optional package."""


def test_every_module_that_renders_a_report_is_in_the_registry():
    renders = set()
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"keras_bnguard.report.{info.name}")
        if getattr(getattr(module, "render", None), "__module__", None) == module.__name__:
            renders.add(info.name)
    registered = {form.name for form in FORMATS}
    assert renders >= registered, f"write report/NAME.py for {sorted(renders ^ registered)}"
    assert renders <= registered, f"add {sorted(renders - registered)} to FORMATS of formats.py"


def test_the_promised_endings_and_printed_formats_are_there():
    # The public promise of `Report.save`, `report=` and `--output-format`: a new format goes here.
    assert set(ENDINGS) == {".html", ".json", ".sarif", ".txt"}
    assert set(PRINTED) == {"text", "json", "github", "concise"}


def test_no_ending_belongs_to_two_formats():
    endings = [ending for form in FORMATS for ending in form.endings]
    assert len(endings) == len(set(endings))


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
def test_the_ending_chooses_the_format(tmp_path, name, form):
    assert format_of(name) is format_named(form)
    assert format_of(tmp_path / name) is format_named(form)


@pytest.mark.parametrize("name", ["r.pdf", "r.html.pdf", "r", ".", "", "json", None, 3, b"r.json"])
def test_another_ending_is_refused_and_the_known_ones_are_listed(name):
    with pytest.raises(SettingError) as caught:
        format_of(name)
    assert all(ending in str(caught.value) for ending in ENDINGS)


@pytest.mark.parametrize("form", [form for form in FORMATS if form.package], ids=name_of)
def test_a_format_without_its_package_is_refused_and_names_the_extra(monkeypatch, form):
    monkeypatch.setitem(sys.modules, form.package, None)
    for refused in (form.require, lambda: format_of("r" + form.endings[0])):
        with pytest.raises(MissingExtraError, match=r"pip install 'keras_bnguard\[report\]'"):
            refused()


def test_a_refused_report_writes_no_file_and_no_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for name, error in (("r.pdf", SettingError), ("r.html", MissingExtraError)):
        with pytest.raises(error):
            plain().save(tmp_path / "new" / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["r.json", "r.sarif", "r.sarif.json"])
def test_missing_folders_are_made_and_the_file_can_be_read(tmp_path, name):
    path = tmp_path / "a" / "b" / name
    faulty().save(path)
    assert strict(path.read_text(encoding="utf-8")) == strict(format_of(name).render(faulty()))


def test_a_saved_text_has_unix_line_ends(tmp_path):
    faulty().save(tmp_path / "r.txt")
    assert (tmp_path / "r.txt").read_bytes() == TEXT.render(faulty()).encode()


@pytest.mark.needs_extra
def test_saved_html_shows_the_phases(tmp_path):
    faulty().save(tmp_path / "r.html", PHASES)
    written = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert written.startswith("<!DOCTYPE html>")
    assert "head only" in written


def test_an_older_file_is_replaced(tmp_path):
    path = tmp_path / "r.txt"
    path.write_text("x" * 10_000)
    plain().save(path)
    assert path.read_text() == TEXT.render(plain())


def test_a_name_that_is_no_valid_unicode_does_not_cost_the_report(tmp_path):
    plain(notes=("bn\ud800",)).save(tmp_path / "r.txt")
    assert "bn\\ud800" in (tmp_path / "r.txt").read_text(encoding="utf-8")


def test_only_the_format_for_people_prints_notes_and_last_lines():
    for form in PLAIN:
        out = io.StringIO()
        form.note("no training", out)
        form.print_summary(faulty(), 2, ["the last line"], out)
        for_people = form is TEXT
        assert ("no training" in out.getvalue()) is for_people
        assert ("the last line" in out.getvalue()) is for_people


@pytest.mark.parametrize("name", PRINTED)
def test_a_printed_report_is_what_is_rendered(name):
    out = io.StringIO()
    format_named(name).print(faulty(), out)
    assert out.getvalue() == format_named(name).render(faulty())


@pytest.mark.parametrize("form", PLAIN, ids=name_of)
@given(report=reports)
@settings(max_examples=40)
def test_every_format_renders_any_report(form, report):
    written = form.render(report)
    written.encode("utf-8")
    assert "\x1b" not in written
    assert form.render(report) == written


@pytest.mark.parametrize("form", PLAIN, ids=name_of)
def test_every_format_renders_names_that_look_like_markup(form):
    assert form.render(hostile())


@pytest.mark.needs_extra
@given(report=reports)
@settings(max_examples=40)
def test_a_coloured_terminal_and_a_notebook_take_any_report(report):
    from rich.console import Console

    from keras_bnguard.report.terminal import print_rich

    print_rich(report, Console(file=io.StringIO(), force_terminal=True, width=60))
    assert report._repr_html_().startswith('<div class="bng">')
