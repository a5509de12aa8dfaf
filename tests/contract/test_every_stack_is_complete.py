"""A stack is one row of `known_stacks.py`; what else it needs is there, without a framework."""

from __future__ import annotations

import importlib
import re
from dataclasses import fields

import pytest

from keras_bnguard.backends import adapters
from keras_bnguard.backends.base import Parts
from keras_bnguard.backends.known_stacks import KNOWN_STACKS
from tests import ROOT

BY_ADAPTER = sorted({known.adapter for known in KNOWN_STACKS})
ATTRIBUTES = {"flags": ("timing",), "step": ("regularizes_frozen", "traces")}
"""What the classes of a part have to set, beside the abstract methods."""
FILES = {
    "tox.ini": r"^\[testenv:{name}\]$",
    "Makefile": r"^STACKS := .*\b{name}\b",
    "tools/with_stack.sh": r"^ .*(^|[ (|]){name}( \||\))",
    "tests/stack.py": r'^    "{name}": \(',
}
"""File -> how a stack is written there."""


def parts_of(adapter):
    return importlib.import_module(f"{adapters.__name__}.{adapter}").PARTS


@pytest.mark.parametrize("adapter", BY_ADAPTER)
@pytest.mark.parametrize("part", [each.name for each in fields(Parts)])
def test_an_adapter_has_every_method_that_a_backend_must_write(adapter, part):
    cls = getattr(parts_of(adapter), part)
    missing = sorted(cls.__abstractmethods__)
    missing += [name for name in ATTRIBUTES.get(part, ()) if not hasattr(cls, name)]
    assert not missing, f"{cls.__name__} of backends/adapters/{adapter}.py lacks {missing}"


def test_an_adapter_that_lacks_a_method_is_seen():
    from keras_bnguard.backends.interface import FlagsInterface

    assert FlagsInterface.__abstractmethods__
    assert not hasattr(FlagsInterface, "timing")


def test_every_module_with_parts_belongs_to_a_stack():
    folder = ROOT / "keras_bnguard" / "backends" / "adapters"
    found = sorted(
        path.stem
        for path in folder.glob("*.py")
        if re.search("^PARTS = ", path.read_text(encoding="utf-8"), re.M)
    )
    assert found == BY_ADAPTER, "add a row to backends/known_stacks.py"


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("known", KNOWN_STACKS, ids=lambda known: known.name)
def test_a_stack_can_be_tested_and_run(known, file):
    pattern = FILES[file].format(name=re.escape(known.name))
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(pattern, text, re.M), f"add {known.name} to {file}"
