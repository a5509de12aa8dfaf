"""The pytest plugin, in test runs of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests import ROOT
from tests.stack import STACK

TESTS = """
import warnings
import numpy as np
from tests.stack import keras
warnings.simplefilter("ignore")

def test_trains():
    norm = keras.layers.BatchNormalization(name="bn")
    base = keras.Sequential([keras.layers.Input((4,)), norm], name="base")
    base.trainable = False
    norm.trainable = FAULT
    model = keras.Sequential([keras.layers.Input((4,)), base, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((8, 4), "float32")
    model.fit(x, x[:, :1], verbose=0)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tests")
    (folder / "test_right.py").write_text(TESTS.replace("FAULT", "False"))
    (folder / "test_wrong.py").write_text(TESTS.replace("FAULT", "True"))
    words = ["-m", "pytest", "-q", "-p", "keras_bnguard.pytest_plugin"]
    words += ["-p", "no:cacheprovider", "--bnguard-fail-on", "error", "--bnguard-ignore", "BNG401"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BNGUARD_STACK": STACK}
    return subprocess.run(
        [sys.executable, *words, "."], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_findings_are_in_the_summary_with_their_test(run):
    assert "2 passed" in run.stdout
    assert "test_wrong.py::test_trains\nBNG102" in run.stdout
    assert "test_right.py::test_trains\nBNG" not in run.stdout


def test_fail_on_fails_a_run_whose_tests_pass(run):
    assert run.returncode == 1
    assert "--bnguard-fail-on=error fails the run" in run.stdout
