"""The docs site has every page, and its links lead to pages that it has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import keras_bnguard as bng
from tests import ROOT
from tools import docs_site

CONFIG = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
NAV = set(re.findall(r": (\S+\.md)$", CONFIG, re.M))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "docs"
    docs_site.gather(folder)
    return folder


def test_every_page_is_in_the_navigation(pages):
    assert {page.relative_to(pages).as_posix() for page in pages.rglob("*.md")} == NAV


def test_every_link_leads_to_a_page_of_the_site(pages):
    found = 0
    for page in pages.rglob("*.md"):
        for match in docs_site.LINK.finditer(page.read_text(encoding="utf-8")):
            if ":" not in match["to"]:
                found += 1
                assert page.parent.joinpath(match["to"]).is_file(), (page.name, match[0])
    assert found > 50


@pytest.mark.parametrize(
    ("page", "text", "shown"),
    [
        ("index.md", "[a](docs/phases.md#x)", "[a](phases.md#x)"),
        ("index.md", "![a](docs/examples/keras_guide.png)", "![a](examples/keras_guide.png)"),
        ("index.md", "[a](examples/quickstart.py)", "a"),
        ("index.md", "[a](examples/tour.ipynb)", "[a](tutorial.md)"),
        ("examples/keras_guide.md", "[a](../../examples/keras_guide.py)", "a"),
        ("examples/keras_guide.md", "[a](../phases.md)", "[a](../phases.md)"),
        ("phases.md", "[a](../CHANGELOG.md)", "[a](changelog.md)"),
        ("phases.md", "[a](https://keras.io) [b](#c)", "[a](https://keras.io) [b](#c)"),
    ],
)
def test_links_are_moved_with_their_pages(page, text, shown):
    assert docs_site.with_links(text, Path(page)) == shown


def test_the_page_of_the_api_has_every_public_name():
    text = docs_site.api()
    for name in set(bng.__all__) - {"__version__"}:
        assert re.search(rf"^::: keras_bnguard\..*\.{name}$", text, re.M), name
