"""Benchmarks and tools import what is there: no test runs the benchmarks."""

from __future__ import annotations

import ast
import importlib
import re

import pytest

from tests import ROOT

SCRIPTS = sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("tools/*.py")])


def imported(path):
    """(module, name) of every import from this package, at any depth."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("keras_bnguard"):
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_imports_names_that_exist(script):
    compile(script.read_text(encoding="utf-8"), str(script), "exec")
    for module, name in imported(script):
        if not hasattr(importlib.import_module(module), name):
            importlib.import_module(f"{module}.{name}")


def test_imports_of_this_package_are_found():
    found = {pair for script in SCRIPTS for pair in imported(script)}
    assert ("keras_bnguard.model.snapshot", "take_snapshot") in found


def test_what_is_tested_on_a_device_is_there():
    script = (ROOT / "tools/on_device.sh").read_text(encoding="utf-8")
    folders = re.findall(r"tests/[a-z/]+(?=[ \n])", script)
    assert len(folders) == 6
    assert all((ROOT / folder).is_dir() for folder in folders)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"bench", "test-device", "bench-device"} <= set(
        re.findall(r"^([a-z-]+):", makefile, re.M)
    )
