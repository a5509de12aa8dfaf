"""The stack under test is the one that was named, and its failures are failures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import ROOT
from tests.conftest import LEFT_OUT, runs_without_stack
from tests.stack import BACKEND, IS_KERAS3, STACK, STACKS, VERSION, keras


def test_the_stack_is_the_named_one():
    assert os.environ["BNGUARD_STACK"] == STACK
    assert VERSION.startswith("3.") == IS_KERAS3
    assert keras.backend.backend() == BACKEND


def test_the_stack_trains_a_model_with_batch_norm():
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization()])
    model.compile("sgd", "mse")
    before = model.layers[-1].get_weights()[2]
    x = np.random.default_rng(0).normal(5.0, 1.0, (32, 3)).astype("float32")
    model.fit(x, x, batch_size=8, verbose=0)
    assert not np.array_equal(before, model.layers[-1].get_weights()[2])


@pytest.mark.skipif(BACKEND != "jax", reason="XLA compiles every program of JAX")
def test_a_program_that_was_compiled_before_is_not_compiled_again():
    import jax

    kept = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])

    def run():
        return jax.jit(lambda x: x * 3 + 41)(np.arange(7.0)).tolist(), set(kept.iterdir())

    assert run() == run()
    assert run()[1]


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
        # A stack whose Keras or backend is not the one installed.
        name = {"k2": "tfk", "k3-tf": "k3-torch"}.get(STACK, "k2")
    result = _pytest(tmp_path, name)
    assert result.returncode != 0, result.stdout + result.stderr
    assert all(stack in result.stdout + result.stderr for stack in STACKS)


@pytest.fixture(scope="module")
def without_a_stack(tmp_path_factory):
    """What is collected with BNGUARD_STACK=none: one name a line."""
    result = _pytest(tmp_path_factory.mktemp("none"), "none", "tests", "--stack-only")
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_framework_free_tests_run_without_a_stack(without_a_stack):
    assert "::test_import_loads_no_framework" in without_a_stack
    assert "test_stack.py" not in without_a_stack


def test_every_test_runs_with_a_stack_or_without(without_a_stack, request):
    """What `--stack-only` leaves out, or would, is what runs where there is no stack."""
    left_out = request.config.stash[LEFT_OUT]
    would_be = [item.nodeid for item in request.session.items if runs_without_stack(item)]
    missing = {*left_out, *would_be} - set(without_a_stack.splitlines())
    assert not missing, missing
    here = {item.nodeid for item in request.session.items}
    assert request.node.nodeid in here
    assert not here & set(left_out)


def _pytest(tmp_path: Path, stack: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "BNGUARD_STACK": stack, "PYTHONDONTWRITEBYTECODE": "1"}
    if not stack:
        del environment["BNGUARD_STACK"]
    arguments = arguments or ("tests/unit/test_stack.py",)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q"]
    return subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
