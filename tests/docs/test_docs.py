"""The docs are current, and what the README shows runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest

import keras_bnguard as bng
from tests import ROOT
from tests.stack import keras


def python_blocks():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.S)


def test_generated_docs_are_current():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "make_docs.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", ["docs/rules.md", "README.md"])
def test_a_stale_page_fails_the_check(page, tmp_path):
    for name in ("keras_bnguard", "docs", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "README.md", tmp_path)
    stale = tmp_path / page
    text = stale.read_text(encoding="utf-8")
    assert "trainable-changed-after-compile" in text
    stale.write_text(
        text.replace("trainable-changed-after-compile", "an-old-name"), encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "tools" / "make_docs.py"), "--check"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"{page} is not current" in done.stdout


def test_python_in_the_page_on_phases_resolves(capsys):
    x = inputs = keras.Input((8,))
    for i in range(3):
        x = keras.layers.Dense(4, name=f"block{i}_dense")(x)
        x = keras.layers.BatchNormalization(name=f"block{i}_bn")(x)
    model = keras.Model(inputs, keras.layers.Dense(1, name="head")(x))
    model.compile("sgd", "mse")
    fits = []
    model.fit = lambda *data, **how: fits.append(how)
    text = (ROOT / "docs" / "phases.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    namespace = {"model": model, "x": None, "y": None}
    for block in blocks:
        exec(block, namespace)
    assert [how["epochs"] for how in fits] == [15, 30, 15]
    printed = capsys.readouterr().out
    assert re.search("all +7 layers", printed)  # fine_tune
    assert re.search("top +3 layers", printed)
    assert "val_loss flat for 2" in printed


def test_the_readme_has_python_for_each_use():
    blocks = "\n".join(python_blocks())
    for name in ("BNGuard(", "GuardedTrainStep", "force_inference", "PhaseScheduler"):
        assert name in blocks


@pytest.mark.filterwarnings("ignore::keras_bnguard.BNGuardWarning")
def test_python_in_the_readme_runs(capsys):
    inputs = keras.Input((8,))
    hidden = keras.layers.Dense(6, name="dense_in_base")(inputs)
    hidden = keras.layers.BatchNormalization(name="bn")(hidden)
    base = keras.Model(inputs, hidden, name="base")
    outer = keras.Input((8,))
    model = keras.Model(outer, keras.layers.Dense(1, name="head")(base(outer)))
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 8)).astype("float32")
    y = rng.normal(size=(32, 1)).astype("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bng.BNGuardWarning)
        for block in python_blocks():
            exec(block, {"bng": bng, "keras": keras, "model": model, "x": x, "y": y})
    assert "keras_bnguard" in capsys.readouterr().out
