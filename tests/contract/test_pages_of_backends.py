"""`docs/backends.md` and `docs/what-we-patch.md` list what the code of `backends/` has."""

from __future__ import annotations

import ast
import configparser
import re

import pytest

from tests import ROOT

PACKAGE = ROOT / "keras_bnguard"
BACKENDS = PACKAGE / "backends"
BACKENDS_PAGE = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
PATCHES_PAGE = (ROOT / "docs" / "what-we-patch.md").read_text(encoding="utf-8")
PARTS = ("Graph", "Flags", "Optimizer", "Step", "Values")
ROWS = re.findall(r"\| `([\w/]+\.py)` \| `(tests/[\w/]+\.py)(?:::(\w+))?` \|$", PATCHES_PAGE, re.M)
REPLACED = {
    "add_weight",
    "trainable",
    "compile",
    "make_train_function",
    "__call__",
    "callbacks",
    "exec_module",
}
"""Attributes of classes and objects of Keras that are assigned in the plain way."""
NO_PATCH = {
    "backends/callback_base.py": "hooks of our own class",
    "backends/layer_behaviour.py": "a fresh layer of our own",
    "backends/self_test.py": "layers of our own",
    "cli/demo/recipe.py": "a training script of a user, not a part of the package",
}


def classes(path):
    """Class name -> names of its methods."""
    return {
        node.name: [f.name for f in node.body if isinstance(f, ast.FunctionDef)]
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }


def listed_methods(heading):
    text = BACKENDS_PAGE.split(f"## {heading}")[1].split("\n## ")[0]
    return re.findall(r"^\| ([\w ]+) \| `(\w+)` \|", text, flags=re.M)


def test_the_methods_that_a_backend_must_write_are_the_abstract_ones():
    written = [
        ("array operations" if name == "ArrayOperations" else name[: -len("Interface")].lower(), m)
        for name, methods in classes(BACKENDS / "interface.py").items()
        for m in methods
    ]
    assert listed_methods("Methods a backend must write") == written
    assert len(written) <= 30


def test_the_methods_that_a_backend_may_replace_are_those_that_adapters_replace():
    shared = {
        name: methods
        for path in [*(BACKENDS / "parts").glob("*.py"), BACKENDS / "values" / "base.py"]
        for name, methods in classes(path).items()
    }
    replaced = {
        (part.lower(), method)
        for path in (BACKENDS / "adapters").glob("*.py")
        for name, methods in classes(path).items()
        for part in PARTS
        if name.endswith(part)
        for method in methods
        if method in shared[part] and not method.startswith("_")
    }
    assert set(listed_methods("Methods a backend may replace")) == replaced


@pytest.mark.parametrize("part", PARTS)
def test_an_interface_has_at_most_25_methods(part):
    abstract = classes(BACKENDS / "interface.py")[f"{part}Interface"]
    shared = next(
        found[part]
        for path in [*(BACKENDS / "parts").glob("*.py"), BACKENDS / "values" / "base.py"]
        for found in [classes(path)]
        if part in found
    )
    public = {name for name in [*abstract, *shared] if not name.startswith("_")}
    assert len(public) <= 25


def test_the_order_of_the_page_is_the_import_contract():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    contract = setup["importlinter:contract:backends"]["layers"].strip().split("\n")
    text = BACKENDS_PAGE.split("## Order of the modules")[1]
    rows = re.findall(r"^\| (`[^|]*`) \|", text, flags=re.M)
    assert [re.findall(r"`(\w+)`", row) for row in rows] == [
        [name.strip() for name in line.split("|")] for line in contract
    ]


def patches(tree):
    """Whether a file replaces, reorders or searches something that is not its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            first = getattr(node.args[0], "id", "") if node.args else ""
            own = first in ("self", "cls")
            if name in ("__setattr__", "__delattr__", "setattr", "delattr") and not own:
                return True
            if name in ("wrap_all", "set_global_attribute", "finalize", "_getframe", "stands_for"):
                return True
            if name == "get_objects":
                return True
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            on_self = getattr(node.value, "id", "") == "self"
            if node.attr in REPLACED and not on_self:
                return True
    return False


def test_every_file_that_patches_is_listed():
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        if patches(ast.parse(path.read_text(encoding="utf-8")))
    }
    listed = {file for file, _, _ in ROWS}
    assert found - listed - set(NO_PATCH) == set(), "add a row to docs/what-we-patch.md"
    assert listed - found - {"backends/adapters/keras3_torch.py"} == set(), "no patch is left there"
    assert set(NO_PATCH) <= found


@pytest.mark.parametrize(("file", "test", "name"), ROWS)
def test_the_test_of_a_row_exists(file, test, name):
    assert (PACKAGE / file).is_file()
    tree = ast.parse((ROOT / test).read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert any(each.startswith("test") for each in functions)
    assert not name or name in functions


def test_every_row_is_read():
    text = [line for line in PATCHES_PAGE.split("\n") if line.startswith("| ")]
    headings = [line for line in text if line.startswith("| what |")]
    assert len(ROWS) == len(text) - len(headings)
