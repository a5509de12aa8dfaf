"""Findings under `bnguard run` however the process ends: nothing is lost, nothing comes twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests import ROOT
from tests.stack import STACK

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks and signals of POSIX")

SCRIPT = """
import os, signal, sys, time, warnings
HOW, PARENT = sys.argv[1], os.getpid()
if HOW == "fork" and os.fork() == 0:  # Before the framework starts its threads.
    while os.getppid() == PARENT:
        time.sleep(0.1)
    time.sleep(0.5)
    print("child", flush=True)
    sys.exit(0)
import numpy as np
from tests.stack import keras

layers = [keras.layers.Dense(2), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
model = keras.Sequential(layers)
model.build((None, 3))
model.compile("sgd", "mse")
model.layers[1].trainable = False


class Callback(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if HOW == "folder":
            os.mkdir(sys.argv[2])
        elif HOW != "fork":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)


def ended(*arguments):
    print("handler of the script", flush=True)
    if HOW == "chained":
        BEFORE(*arguments)
    sys.exit(7)


if HOW in ("handler", "chained"):
    BEFORE = signal.signal(signal.SIGTERM, ended)
x = np.ones((8, 3), "float32")
model.fit(x, x[:, :1], verbose=0, callbacks=[Callback()])
print("trained", flush=True)
"""


@pytest.fixture
def run(tmp_path):
    script, path = tmp_path / "train.py", tmp_path / "r.json"
    script.write_text(SCRIPT)

    def start(how, *options):
        words = ["-m", "keras_bnguard", "run", "--report", str(path), *options, str(script), how]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "BNGUARD_STACK": STACK}
        # Ends when a fork that has the same output open has ended, too.
        return subprocess.run(
            [sys.executable, *words, str(path)], env=environment, capture_output=True, text=True
        )

    return start, path


def codes(path):
    return {finding["code"] for finding in json.loads(path.read_text())["findings"]}


def test_sigterm_prints_and_writes_what_is_known_and_ends_the_process(run):
    start, path = run
    ended = start("plain")
    assert ended.returncode == -signal.SIGTERM
    assert "trained" not in ended.stdout
    assert "BNG101" in codes(path)
    assert ended.stderr.count("keras_bnguard: ") == 1
    assert "ended by a signal" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("how", ["handler", "chained"])
def test_a_handler_of_the_script_counts(run, how):
    start, path = run
    ended = start(how)
    assert ended.returncode == 7
    assert "handler of the script" in ended.stdout
    assert "BNG101" in codes(path)
    assert ended.stderr.count("keras_bnguard: ") == 1


def test_findings_are_printed_where_the_file_can_no_longer_be_written(run):
    start, path = run
    ended = start("folder")
    assert ended.returncode == 0
    assert "trained" in ended.stdout
    assert "BNG101" in ended.stderr
    assert f"the report {path} could not be written" in ended.stderr


def test_a_path_that_cannot_be_written_is_an_error_before_the_script_runs(run):
    start, path = run
    path.mkdir()
    ended = start("plain")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"bnguard run: report={str(path)!r} cannot be written")


def test_a_fork_that_outlives_the_process_prints_and_writes_nothing(run):
    start, path = run
    both = start("fork", "--fail-on", "error")
    assert both.returncode == 1
    assert both.stdout.splitlines() == ["trained", "child"]
    assert "BNG101" in codes(path)
    assert both.stderr.count("keras_bnguard: ") == 1
