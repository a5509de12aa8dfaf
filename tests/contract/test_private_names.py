"""Every private name that `backends/` uses has a test in one of the files beside this one."""

from __future__ import annotations

import ast
from pathlib import Path

import keras_bnguard.backends

BACKENDS = Path(keras_bnguard.backends.__file__).parent


def names_with_a_test():
    """The names in the `@private(...)` marks of the files beside this one."""
    return {
        name
        for path in Path(__file__).parent.glob("test_private_names_of_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "private"
        for name in node.args[0].value.split()
    }


def own_names():
    """Private names that the package itself defines or assigns."""
    found = set()
    for path in BACKENDS.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "hook", "cls"):
                    found.add(node.attr)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
    return found


def used_names():
    """Private names that `backends/` reads, writes or spells in a string."""
    found = {}
    for path in sorted(BACKENDS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Attribute):
                on_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                names = [] if on_self else [node.attr]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = [node.value] if node.value.isidentifier() else []
            for name in names:
                if name.startswith("_") and not name.startswith("__"):
                    found.setdefault(name, set()).add(path.name)
    return found


NO_KERAS_NAMES = {"_getframe", "_replace", "_batch_", "_", "_inner_in", "_in", "_outer"}
NO_KERAS_NAMES |= {"_after", "_inner"}
"""`sys._getframe` and `namedtuple._replace` are Python's; the others are parts of our names."""


def test_every_private_name_of_a_framework_has_a_test():
    ours = own_names()
    missing = {
        name: sorted(files)
        for name, files in used_names().items()
        if name not in names_with_a_test() | NO_KERAS_NAMES | ours and not name.startswith("_bng")
    }
    assert not missing
    assert len(used_names()) > 20


def test_no_test_here_is_left_over():
    used = set(used_names())
    spelled = "".join(p.read_text(encoding="utf-8") for p in BACKENDS.rglob("*.py"))
    assert not {name for name in names_with_a_test() if name not in used and name not in spelled}
