"""Pages of examples show what their scripts print, and that bears out what the pages claim."""

from __future__ import annotations

import re

import pytest

from tests import ROOT
from tests.builders.example_facts import EXAMPLES
from tools.run_example import blocks, write

PAGES = ROOT / "docs" / "examples"


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short_and_has_a_page_with_a_small_picture(name):
    source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 100
    assert f"({name}.png)" in (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert (PAGES / f"{name}.png").stat().st_size < 60_000
    assert f"examples/{name}.py" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_a_page_shows_bears_its_story_on_every_keras_it_names(name):
    stacks, check = EXAMPLES[name]
    shown = blocks(name)
    assert set(shown) == set(stacks)
    for stack, lines in shown.items():
        check(lines, stack)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_number_in_the_text_is_one_that_was_printed(name):
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    prose = text.split("\n## What it prints", 1)[0]
    printed = {n for lines in blocks(name).values() for each in lines for n in _numbers(each)}
    assert _numbers(prose) <= printed
    assert _numbers(prose)


def _numbers(text):
    return set(re.findall(r"\d+\.\d %", text))


def test_output_replaces_that_of_its_own_keras_only(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.run_example.PAGES", tmp_path)
    (tmp_path / "page.md").write_text("# Title\n\n### k2\n\n```text\nold\n```\n")
    write("page", "k3-jax", "new \\1\n")
    write("page", "k2", "other\n")
    assert blocks("page") == {"k2": ["other"], "k3-jax": ["new \\1"]}
