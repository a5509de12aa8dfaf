"""Pages name files, folders and headings that exist."""

from __future__ import annotations

import configparser
import re

import pytest

from tests import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def anchors(page):
    """The names under which a browser finds the headings of a page."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, flags=re.M)
    named = re.findall(r'<a (?:id|name)="([^"]+)"', text)
    return {
        re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-") for line in headings
    }.union(named)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_a_page_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_files_that_a_page_names_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./]+(?:/|\.py|\.md|\.cfg|\.sh|\.toml))`", text))
    assert len(named) > 10
    missing = [
        n for n in named if not ((ROOT / n).exists() or (ROOT / "keras_bnguard" / n).exists())
    ]
    assert missing == []


def test_every_folder_of_the_package_is_in_the_page_on_architecture():
    package = ROOT / "keras_bnguard"
    folders = {p for p in package.rglob("*") if p.is_dir() and any(p.glob("*.*"))}
    names = {f"{p.relative_to(package).as_posix()}/" for p in folders if p.name != "__pycache__"}
    rows = set(re.findall(r"^\| `([\w/]+/)` \|", ARCHITECTURE, flags=re.M))
    assert rows == names


def test_the_table_of_packages_is_the_import_contract():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    contract = setup["importlinter:contract:layers"]["layers"].split("\n")
    layers = [line.strip() for line in contract if line.strip() and "__main__" not in line]
    table = ARCHITECTURE.split("## Data flow")[0]
    rows = re.findall(r"^\| (`[^|]*`) \|", table, flags=re.M)
    named = [name for row in rows for name in re.findall(r"`(\w+)(?:/|\.py)`", row)]
    assert named == layers
