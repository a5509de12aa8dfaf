"""`tools/new_rule.py` starts a rule whose files pass, and lists what is left to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests import ROOT

CODE, NAME = "BNG299", "example-of-a-new-rule"
COPIED = ("keras_bnguard", "tests", "tools", "docs", "README.md", "setup.cfg", "ruff.toml")


def run(folder, *arguments):
    """Run Python in a copy of the repository; the exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "BNGUARD_STACK": "none"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository with one rule that was just started."""
    folder = tmp_path_factory.mktemp("repository")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            hidden = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / name, ignore=hidden)
        else:
            shutil.copy(source, folder / name)
    code, printed = run(folder, "tools/new_rule.py", CODE, NAME)
    assert code == 0, printed
    return folder


def test_the_files_of_a_new_rule_pass_the_tests_as_they_are_written(copy):
    tests = ("tests/unit/rules/test_all_rules.py", f"tests/unit/rules/test_{CODE.lower()}.py")
    code, printed = run(copy, "-m", "pytest", "-q", "--stack-only", "-k", CODE, *tests)
    assert code == 0, printed


def test_a_new_rule_is_listed_and_documented_at_once(copy):
    code, printed = run(copy, "-m", "keras_bnguard", "explain", NAME)
    assert code == 0
    assert printed.startswith(f"{CODE} {NAME}\n")
    assert f"{CODE} {NAME}" in (copy / "docs" / "rules.md").read_text(encoding="utf-8")


def test_the_check_names_each_place_that_is_not_filled_in(copy):
    code, printed = run(copy, "tools/new_rule.py", "--check")
    assert code == 1
    # Another rule may have been started in this checkout, and is listed, too.
    lines = [line for line in printed.splitlines() if line.startswith(f"{CODE}: ")]
    assert sum("fill in" in line for line in lines) == 7
    assert len(lines) == 9, printed


@pytest.mark.parametrize(
    ("file", "old"),
    [
        ("tests/builders/everything_wrong.py", f'        norm("{CODE.lower()}"),\n'),
        ("tests/unit/rules/test_all_rules.py", f"| {CODE} | warning | inventory |  |  |  |\n"),
        ("docs/rules.md", f"{CODE} {NAME}"),
        ("README.md", f"{CODE.lower()}) {NAME} |"),
    ],
)
def test_the_check_names_a_file_in_which_the_rule_was_forgotten(copy, file, old):
    path = copy / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, ""), encoding="utf-8")
    try:
        code, printed = run(copy, "tools/new_rule.py", "--check")
    finally:
        path.write_text(text, encoding="utf-8")
    assert code == 1
    assert file in printed


def test_stale_pages_fail_the_check_of_the_docs(copy):
    assert run(copy, "tools/make_docs.py", "--check")[0] == 0
    page = copy / "docs" / "rules.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace(NAME, "an-old-name"), encoding="utf-8")
    try:
        code, printed = run(copy, "tools/make_docs.py", "--check")
    finally:
        page.write_text(text, encoding="utf-8")
    assert code == 1
    assert "docs/rules.md is not current" in printed


@pytest.mark.parametrize(
    "arguments",
    [("BNG299", "a-name"), ("BNG1", "a-name"), ("BNG298", "A_name"), ("BNG298", "renorm")],
)
def test_a_malformed_or_taken_name_writes_nothing(copy, arguments):
    before = sorted(copy.rglob("*.py"))
    code, printed = run(copy, "tools/new_rule.py", *arguments)
    assert code == 1
    assert arguments[0] in printed or arguments[1] in printed
    assert sorted(copy.rglob("*.py")) == before


def test_nothing_is_missing_from_the_rules_of_this_repository():
    code, printed = run(ROOT, "tools/new_rule.py", "--check")
    assert code == 0, printed
