"""What mypy and pyright make of the installed wheel, seen from a user's program.

The wheel is unpacked into a folder of its own and found the way installed packages are, so a
missing `py.typed`, a name that only exists at run time or an argument that is swallowed by
`**kwargs` fails here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Set

import pytest

import keras_bnguard as bng

HERE = Path(__file__).parent
NAMES = sorted(set(bng.__all__) - {"__version__"})


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the wheel in it and nothing else."""
    (wheel,) = Path(os.environ["BNGUARD_DIST"]).glob("*.whl")
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(folder), str(wheel)], check=True)
    return folder


def run(command: List[str], site: Path, folder: Path) -> subprocess.CompletedProcess:
    """A command that finds the wheel as an installed package, and not this checkout."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def mypy(file: Path, site: Path, folder: Path) -> Dict[int, str]:
    done = run(["mypy", "--strict", "--no-incremental", file.name], site, folder)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    lines = re.findall(rf"^{re.escape(file.name)}:(\d+): error: (.*)$", done.stdout, flags=re.M)
    return {int(line): text for line, text in lines}


def pyright(file: Path, site: Path, folder: Path) -> Dict[int, str]:
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
    command = ["pyright", "--outputjson", "--pythonpath", sys.executable, str(file)]
    done = run(command, site, folder)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {
        each["range"]["start"]["line"] + 1: each["message"]
        for each in found
        if each["severity"] == "error"
    }


CHECKERS = pytest.mark.parametrize("check", [mypy, pyright])


def copy(name: str, folder: Path) -> Path:
    file = folder / name
    file.write_text((HERE / name).read_text(encoding="utf-8"), encoding="utf-8")
    return file


def marked(file: Path) -> Set[int]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}


@CHECKERS
def test_a_right_program_has_no_error(check, site, tmp_path):
    assert check(copy("right.py", tmp_path), site, tmp_path) == {}


@CHECKERS
def test_each_mistake_is_an_error_and_nothing_else_is(check, site, tmp_path):
    file = copy("wrong.py", tmp_path)
    assert marked(file)
    found = check(file, site, tmp_path)
    assert set(found) == marked(file), found


@CHECKERS
def test_every_public_name_has_a_type(check, site, tmp_path):
    # A name that a checker knows as Any or Unknown would accept this assignment.
    file = tmp_path / "names.py"
    lines = [f"x{i}: complex = bng.{name}" for i, name in enumerate(NAMES)]
    file.write_text("\n".join(["import keras_bnguard as bng", *lines]) + "\n")
    found = check(file, site, tmp_path)
    assert set(found) == set(range(2, len(NAMES) + 2)), found


def test_without_its_marker_of_types_the_wheel_fails_the_check(site, tmp_path):
    """The checks above see the wheel as an installed package: mypy needs its `py.typed`."""
    marker = site / "keras_bnguard" / "py.typed"
    marker.rename(tmp_path / "py.typed")
    try:
        file = copy("wrong.py", tmp_path)
        assert set(mypy(file, site, tmp_path)) != marked(file)
    finally:
        (tmp_path / "py.typed").rename(marker)
