"""Start several processes on this machine that train together, and wait for them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence

from tests import ROOT

TIMEOUT = 150


@dataclass(frozen=True)
class Ended:
    """What became of one process.

    Attributes:
        code: its exit code, negative for a signal.
        out: its standard output.
        err: its standard error.
    """

    code: int
    out: str
    err: str


def run_workers(
    command: Sequence[str], count: int = 2, kind: str = "tf", cwd: Any = None
) -> List[Ended]:
    """Run one command in several processes; none is left when this returns.

    Where one is killed by a signal, the others are, too, as torchrun and clusters do it.

    Args:
        command: arguments for Python.
        count: number of processes.
        kind: "tf" gives each a TF_CONFIG, anything else what torchrun gives.
        cwd: their working directory. Defaults to None: that of this process.
    """
    ports = free_ports(count)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        started: List[Any] = []
        stack.callback(_kill, started)
        files = [(Path(folder, f"out{i}"), Path(folder, f"err{i}")) for i in range(count)]
        for rank, (out, err) in enumerate(files):
            environment = {**os.environ, **_environment(kind, rank, ports), "PYTHONPATH": str(ROOT)}
            environment.pop("PYTEST_CURRENT_TEST", None)
            with open(out, "wb") as stdout, open(err, "wb") as stderr:
                started.append(
                    subprocess.Popen(
                        [sys.executable, *command],
                        stdout=stdout,
                        stderr=stderr,
                        env=environment,
                        cwd=cwd or ROOT,
                    )
                )
        end = time.monotonic() + TIMEOUT
        while any(each.poll() is None for each in started) and time.monotonic() < end:
            time.sleep(0.05)
            if any((each.poll() or 0) < 0 for each in started):
                break
        _kill(started)
        return [
            Ended(each.wait(), out.read_text(errors="replace"), err.read_text(errors="replace"))
            for each, (out, err) in zip(started, files)
        ]


def _kill(processes: Sequence[Any]) -> None:
    for each in processes:
        if each.poll() is None:
            each.kill()
        each.wait()


def _environment(kind: str, rank: int, ports: Sequence[int]) -> Dict[str, str]:
    if kind == "tf":
        task = {"type": "worker", "index": rank}
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(len(ports)),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(ports[0]),
    }


def free_ports(count: int) -> List[int]:
    """Ports that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
