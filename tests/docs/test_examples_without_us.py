"""Each example fails its test as soon as one part of this package is taken out of it.

What the examples print without a part, on Keras 3 with torch, is kept in `without_part/`. The
slow test writes those files again: `pytest -m slow tests/docs/test_examples_without_us.py`.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

from tests import ROOT
from tests.builders.example_facts import EXAMPLES
from tests.builders.without_part import NOTHING
from tools.run_example import blocks, environment_of

KEPT = ROOT / "tests" / "docs" / "without_part"
STACK = "k3-torch"


def parts(name):
    """What an example takes from the package that does something: callables, not descriptions."""
    source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    used = {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "bng"
    }
    return sorted(used - {"Phase", "UnsupportedModelError"})


PAIRS = [(name, part) for name in EXAMPLES for part in parts(name)]


def test_there_is_a_way_to_leave_out_every_part():
    assert {part for _, part in PAIRS} == set(NOTHING)


@pytest.mark.parametrize(("name", "part"), PAIRS)
def test_the_test_of_an_example_fails_without_a_part(name, part):
    check = EXAMPLES[name][1]
    check(blocks(name)[STACK], STACK)
    printed = (KEPT / f"{name}.{part}.txt").read_text(encoding="utf-8").splitlines()
    with pytest.raises(AssertionError):  # a line that is not there is a LookupError
        check(printed, STACK)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("BNGUARD_STACK") != STACK, reason="made on one Keras")
@pytest.mark.parametrize(("name", "part"), PAIRS)
def test_what_is_kept_is_what_an_example_prints_without_a_part(name, part):
    script = ROOT / "examples" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "builders" / "without_part.py"), str(script), part],
        env=environment_of(STACK),
        capture_output=True,
        text=True,
        check=True,
    )
    with pytest.raises(AssertionError):
        EXAMPLES[name][1](done.stdout.splitlines(), STACK)
    KEPT.mkdir(exist_ok=True)
    (KEPT / f"{name}.{part}.txt").write_text(done.stdout, encoding="utf-8")
