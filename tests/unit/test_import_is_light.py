"""`import keras_bnguard` loads no framework and takes next to no time."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

pytestmark = pytest.mark.with_frameworks

FRAMEWORKS = ("tensorflow", "keras", "tf_keras", "jax", "torch")
LOADED = f"""
import sys
found = sorted(set({FRAMEWORKS!r}) & set(sys.modules))
print("loaded:", *found)
"""


def run_python(code: str, *folders: Path, **environment: str) -> str:
    """The output of a fresh Python that sees the repository and `folders` first."""
    path = os.pathsep.join(map(str, (*folders, ROOT)))
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folders[0] if folders else ROOT,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_loads_no_framework():
    assert run_python("import keras_bnguard" + LOADED) == "loaded:"


def test_import_loads_no_numpy():
    assert run_python("import keras_bnguard, sys; print('numpy' in sys.modules)") == "False"


def test_the_check_above_sees_a_framework(tmp_path):
    (tmp_path / "keras.py").write_text("")
    (tmp_path / "keras_bnguard.py").write_text("import keras")
    assert run_python("import keras_bnguard" + LOADED, tmp_path) == "loaded: keras"


def test_public_names_load_no_framework():
    # GuardedModel is a keras.Model: the one name that cannot be had without a Keras.
    code = (
        "import keras_bnguard as bng; "
        "[getattr(bng, name) for name in bng.__all__ if name != 'GuardedModel']"
    )
    assert run_python(code + LOADED) == "loaded:"


def test_import_takes_well_under_a_second():
    # The best of three, since other processes may have the machine. The aim is 50 ms.
    code = (
        "import time; start = time.perf_counter(); import keras_bnguard; "
        "print(time.perf_counter() - start)"
    )
    assert min(float(run_python(code)) for _ in range(3)) < 0.5


@pytest.mark.parametrize("package", [None, "keras", "tf_keras"])
def test_no_keras_is_a_clear_error(package):
    # Where a Keras is installed, None in sys.modules makes its import fail as if it were not.
    installed = [name for name in ("keras", "tf_keras") if importlib.util.find_spec(name)]
    message = run_python(
        f"""
import sys
sys.modules.update(dict.fromkeys({installed!r}))
import keras_bnguard
from keras_bnguard.backends.registry import any_backend
from keras_bnguard.errors import MissingKerasError
try:
    any_backend({package!r})
except MissingKerasError as error:
    assert isinstance(error, ImportError)
    print(error)
"""
    )
    for extra in ("tensorflow", "jax", "torch", "tf-keras"):
        assert f"keras_bnguard[{extra}]" in message
