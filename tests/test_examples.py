"""Every example runs as a user would run it, on the Keras under test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.stack import IS_KERAS3

ROOT = Path(__file__).parent.parent


def run_example(name):
    """The output of an example in a fresh Python; tests.stack has set which Keras it gets."""
    # One thread: the work is small, and other processes may have the machine.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "BNGuardWarning" not in result.stderr
    return result.stdout.splitlines()


def test_every_example_is_run_here():
    assert [path.name for path in (ROOT / "examples").glob("*.py")] == ["quickstart.py"]


def test_quickstart():
    lines = run_example("quickstart.py")
    assert len((ROOT / "examples" / "quickstart.py").read_text().splitlines()) <= 60
    titles = [line for line in lines if not line.startswith(" ")]
    assert titles == ["BNGuard(fix=False)", "BNGuard(fix=True)"]
    found = [line.split(":")[0].strip() for line in lines if line.startswith("  BNG")]
    on_keras3 = ["BNG201 training-false-ignored", "BNG404 frozen-statistics-moved"]
    assert found == ([*on_keras3, on_keras3[0]] if IS_KERAS3 else [])
    accuracies = [float(line.split()[0]) for line in lines if line.endswith("held-out digits")]
    assert len(accuracies) == 2
    assert min(accuracies) > 50.0
    if IS_KERAS3:
        repaired = [line for line in lines if line.startswith("  BNG")][-1]
        assert "not repaired" not in repaired
    else:
        assert accuracies[0] == accuracies[1]
