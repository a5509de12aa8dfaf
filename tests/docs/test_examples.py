"""Every example runs as a user would run it, on the Keras under test."""

from __future__ import annotations

import re

import pytest

from tests import ROOT
from tests.builders.example_facts import EXAMPLES
from tests.stack import IS_KERAS3, STACK
from tools.run_example import blocks, run

HERE = [name for name, (stacks, _) in EXAMPLES.items() if STACK in stacks]

NEAR = 10.0
"""Percentage points by which an accuracy may differ from that on the page: another processor rounds
otherwise, and 500 held-out images have a standard error of two points. The differences that an
example is about are tested by `example_facts`, on the numbers of the same run."""

UNSTABLE = {
    "train_equals_validation": r"val_accuracy|phase 0|evaluate",
    "torch_features": r"frozen|called",
}
"""Accuracies that are low on purpose, so that every rounding changes them: by up to 16 points
between two processors."""


def test_every_example_is_run_here():
    names = {path.stem for path in (ROOT / "examples").glob("[!_]*.py")}
    assert names == {"quickstart", *EXAMPLES}


def test_quickstart():
    lines = run("quickstart", STACK).splitlines()
    assert len((ROOT / "examples" / "quickstart.py").read_text().splitlines()) <= 60
    titles = [line for line in lines if not line.startswith(" ")]
    assert titles == ["BNGuard(fix=False)", "BNGuard(fix=True)"]
    found = [line.split(":")[0].strip() for line in lines if line.startswith("  BNG")]
    on_keras3 = ["BNG201 training-false-ignored", "BNG404 frozen-statistics-updated"]
    assert found == ([*on_keras3, on_keras3[0]] if IS_KERAS3 else [])
    accuracies = [float(line.split()[0]) for line in lines if line.endswith("held-out digits")]
    assert len(accuracies) == 2
    assert min(accuracies) > 50.0
    if IS_KERAS3:
        repaired = [line for line in lines if line.startswith("  BNG")][-1]
        assert "not repaired" not in repaired
    else:
        assert accuracies[0] == accuracies[1]


@pytest.mark.parametrize("name", HERE)
def test_an_example_prints_what_its_page_shows(name):
    lines = run(name, STACK).splitlines()
    EXAMPLES[name][1](lines, STACK)
    # What advise weighs may come out on either side of its own threshold, so that part is left.
    lines, shown = _before_advice(lines), _before_advice(blocks(name)[STACK])
    assert [_words(line) for line in lines] == [_words(line) for line in shown]
    unstable = UNSTABLE.get(name, "^$")
    for line, other in zip(lines, shown):
        assert _counts(line) == _counts(other), (line, other)
        for (what, one), (_, two) in zip(_percents(line), _percents(other)):
            assert re.search(unstable, what) or abs(one - two) < NEAR, (line, other)


def _before_advice(lines):
    start = next((i for i, line in enumerate(lines) if "trial trainings" in line), len(lines))
    return lines[:start]


def _words(line):
    """A line without its numbers, and without what fills up to a column."""
    return re.sub(r"\s+", " ", re.sub(r"[-+]?\d[\d.,]*(e-\d+)?", "#", line))


def _counts(line):
    """Whole numbers, which no rounding changes; not how much faster something was."""
    return re.findall(r"(?<![\d.])\d[\d,]*(?![\d.]| times)", line)


def _percents(line):
    """(the words before a percentage, the percentage) of a line."""
    return [(words, float(number)) for words, number in re.findall(r"(.*?)(\d+\.\d) %", line)]
