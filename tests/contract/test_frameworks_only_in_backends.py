"""Only `backends/` knows a framework, and only one of its files has the names of stacks."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator, Tuple

import pytest

from keras_bnguard.backends.known_stacks import FRAMEWORKS, KNOWN_STACKS
from tests import ROOT

PACKAGE = ROOT / "keras_bnguard"
BACKENDS = PACKAGE / "backends"
NAMES = {known.name for known in KNOWN_STACKS} | FRAMEWORKS
ALLOWED = {
    "backends/known_stacks.py": "the one table",
    "cli/model_files/loading.py": "a model file names the package that wrote it",
    "records/model.py": "NormKind.TORCH: the text of a report",
    "rules/bng501_input_scale_mismatch.py": "names of preprocessing modes in keras.applications",
}
"""Files with such a literal, and why it is no knowledge of a framework."""
FILES = sorted(PACKAGE.rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def literals(path: Path) -> Iterator[Tuple[int, str]]:
    """(line, text) of the string literals that are the name of a stack or a framework."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Constant) and node.value in NAMES:
            yield node.lineno, node.value


def imported_packages(path: Path) -> Iterator[Tuple[int, str]]:
    """(line, top-level package) of everything a file imports, also inside functions."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_file_outside_backends_imports_no_framework(path):
    if BACKENDS not in path.parents:
        assert [found for found in imported_packages(path) if found[1] in FRAMEWORKS] == []


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_file_has_no_literal_name_of_a_stack_or_framework(path):
    found = list(literals(path))
    if relative(path) in ALLOWED:
        assert found, "this file needs no exception any more: remove it from ALLOWED"
    else:
        assert found == [], "ask the backend, or add a name to backends/known_stacks.py"


def test_every_known_stack_is_a_stack_under_test():
    """`tests/stack.py` has versions besides, so it has a table of its own: the same stacks."""
    tree = tree_of(ROOT / "tests" / "stack.py")
    tables = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    tested = ast.literal_eval(tables["STACKS"])
    assert {name: row[1] for name, row in tested.items()} == {
        known.name: known.backend for known in KNOWN_STACKS
    }


@pytest.mark.parametrize("known", KNOWN_STACKS, ids=lambda known: known.name)
def test_every_known_stack_has_an_adapter_with_its_parts(known):
    tree = tree_of(BACKENDS / "adapters" / f"{known.adapter}.py")
    assigned = [each.targets[0].id for each in tree.body if isinstance(each, ast.Assign)]
    assert "PARTS" in assigned


def test_no_test_of_another_folder_imports_an_adapter():
    """Tests ask `backend_for`, so that each runs on every backend."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if (ROOT / "tests" / "contract") in path.parents:
            continue
        names = [
            node.module
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.ImportFrom) and node.module
        ]
        assert not [name for name in names if "backends.adapters" in name], path
