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


WHOLE = """
import numpy as np
from tests.stack import keras

def train(name):
    layers = [keras.layers.Dense(2), keras.layers.BatchNormalization(name=name)]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.build((None, 3))
    model.compile("sgd", "mse")
    model.layers[1].trainable = False
    x = np.ones((8, 3), "float32")
    model.fit(x, x[:, :1], verbose=0)
"""
CONFTEST = """
import warnings
import pytest
warnings.simplefilter("ignore")
from wrong import train

train("in_conftest")

@pytest.fixture(scope="session")
def fixture():
    train("in_fixture")

@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish():
    train("in_hook")
"""
MODULE = """
from wrong import train
train("in_module")

def test_alone():
    train("in_test")

def test_with_fixture(fixture):
    pass
"""


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory):
    folder = tmp_path_factory.mktemp("everywhere")
    (folder / "wrong.py").write_text(WHOLE)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_all.py").write_text(MODULE)
    path = folder / "missing" / "r.json"
    path.mkdir(parents=True)  # A folder of that name: the report cannot be written.
    words = ["-m", "pytest", "-q", "-p", "keras_bnguard.pytest_plugin", "-p", "no:cacheprovider"]
    words += ["--bnguard-select", "BNG101", "--bnguard-report", str(path)]
    path_of = os.pathsep.join([str(folder), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path_of, "BNGUARD_STACK": STACK}
    return subprocess.run(
        [sys.executable, *words, "--bnguard-fail-on", "error", "."],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("in_conftest", "outside of tests (conftest or a hook)"),
        ("in_module", "test_all.py (while it was collected)"),
        ("in_test", "test_all.py::test_alone"),
        ("in_fixture", "test_all.py::test_with_fixture"),
        ("in_hook", "outside of tests (conftest or a hook)"),
    ],
)
def test_training_counts_wherever_it_is(everywhere, name, place):
    lines = everywhere.stdout.splitlines()
    number = next(i for i, line in enumerate(lines) if name in line)
    start = max(i for i in range(number) if lines[i].startswith("BNG101"))
    assert lines[start - 1] == place
    assert everywhere.returncode == 1


def test_a_report_that_cannot_be_written_costs_neither_summary_nor_findings(everywhere):
    assert "2 passed" in everywhere.stdout
    assert "INTERNALERROR" not in everywhere.stdout
    assert "r.json could not be written" in everywhere.stdout
    assert "fails the run" in everywhere.stdout
