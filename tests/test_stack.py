"""The stack under test is the one that was named, and its failures are failures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.stack import ENGINE, IS_KERAS3, STACK, STACKS, VERSION, keras

ROOT = Path(__file__).parent.parent


def test_the_stack_is_the_named_one():
    assert os.environ["BNGUARD_STACK"] == STACK
    assert VERSION.startswith("3.") == IS_KERAS3
    assert keras.backend.backend() == ENGINE


def test_the_stack_trains_a_model_with_batch_norm():
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization()])
    model.compile("sgd", "mse")
    before = model.layers[-1].get_weights()[2]
    x = np.random.default_rng(0).normal(5.0, 1.0, (32, 3)).astype("float32")
    model.fit(x, x, batch_size=8, verbose=0)
    assert not np.array_equal(before, model.layers[-1].get_weights()[2])


@pytest.mark.parametrize("run", [1, 2])
def test_each_test_starts_from_the_same_seed(run, request):
    layer = keras.layers.Dense(1)
    layer.build((None, 3))
    drawn = float(np.random.random()), layer.get_weights()[0].tolist()
    first = request.config.stash.setdefault(_DRAWN, drawn)
    assert drawn == first


_DRAWN = pytest.StashKey()


@pytest.mark.parametrize("name", ["", "k4", "other"])
def test_a_stack_that_is_not_there_fails_the_run(name, tmp_path):
    if name == "other":
        # A stack whose Keras is not the one installed: tf_keras is 2.x, and k2 is no 3.x.
        name = "tfk" if STACK == "k2" else "k2"
    result = _pytest(tmp_path, name)
    assert result.returncode != 0, result.stdout + result.stderr
    assert all(stack in result.stdout + result.stderr for stack in STACKS)


def test_framework_free_tests_run_without_a_stack(tmp_path):
    result = _pytest(tmp_path, "none", "tests")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "::test_import_loads_no_framework" in result.stdout
    assert "test_stack.py" not in result.stdout


def _pytest(tmp_path: Path, stack: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "BNGUARD_STACK": stack, "PYTHONDONTWRITEBYTECODE": "1"}
    if not stack:
        del environment["BNGUARD_STACK"]
    arguments = arguments or ("tests/test_stack.py",)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q"]
    return subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
