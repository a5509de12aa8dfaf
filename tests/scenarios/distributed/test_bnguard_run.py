"""`bnguard run` where other processes train: they are followed, or it is plain that none are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest

from tests import ROOT
from tests.builders.workers import free_ports
from tests.stack import BACKEND

SCRIPT = str(ROOT / "tests" / "builders" / "scripts" / "two_processes.py")
PARENT = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))"


def bnguard_run(*words: str, cwd: Path) -> Any:
    environment: Dict[str, str] = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "keras_bnguard", "run", "--report", "report.json", *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=170,
    )


def report(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text())


def test_where_nothing_was_watched_it_is_plain(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    done = bnguard_run("--no-children", "parent.py", "-c", "exit(3)", cwd=tmp_path)
    assert done.returncode == 3
    assert "no training was seen" in done.stderr
    assert "were not watched" in done.stderr
    assert any("no training was seen" in note for note in report(tmp_path)["notes"])


def test_children_without_training_are_counted_and_see_their_own_sitecustomize(
    tmp_path: Path,
) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    seen = "import sys; print('keras' in sys.modules, 'numpy' in sys.modules); exit(4)"
    done = bnguard_run("parent.py", "-c", seen, cwd=tmp_path)
    assert done.returncode == 4
    assert done.stdout.split() == ["False", "False"]
    assert "no training was seen in this process and in 1 Python processes" in done.stderr


if BACKEND == "torch":

    @pytest.mark.parametrize("how", ["torchrun", "spawn"])
    def test_workers_are_followed_and_reported_once(how: str, tmp_path: Path) -> None:
        port = str(free_ports(1)[0])
        words = [SCRIPT, how, port, "0" if how == "torchrun" else "3"]
        if how == "torchrun":
            words = [
                "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port,
                *words,
            ]  # fmt: skip
        done = bnguard_run(*words, cwd=tmp_path)
        assert done.returncode == int(words[-1]), done.stderr
        assert done.stderr.count("BNG701 per-replica-statistics") == 1
        assert "2 runs of model" in done.stderr
        assert [each["code"] for each in report(tmp_path)["findings"]] == ["BNG701"]
        assert {each.name for each in tmp_path.iterdir()} == {"report.json"}
