"""Python processes that a script under `bnguard run` starts: followed, and their findings kept.

A new Python finds `start/sitecustomize.py` on its path by the environment that it inherits, and
watches what it trains. At its end it writes what it found to a folder of the process above,
which reports all of it as one. A process that was forked prints and writes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any, List, Mapping, NamedTuple, Set, Tuple

if TYPE_CHECKING:  # The script has not loaded NumPy yet, and may never do.
    from keras_bnguard.auto import AutoWarnings

VARIABLE = "BNGUARD_RUN"
"""Environment variable by which children find the folder and the settings."""
START = os.path.join(os.path.dirname(__file__), "start")
"""Folder of the module that Python runs when it starts."""


class Found(NamedTuple):
    """What one process leaves for the one above.

    Attributes:
        rank: which of several processes that train together it was.
        processes: how many those were.
        reports: of its runs.
        unseen: what it could not see, one line each.
        faults: internal errors.
    """

    rank: int
    processes: int
    reports: List[Any]
    unseen: Tuple[str, ...]
    faults: List[str]


class Children:
    """Follows the Python processes that this one starts.

    Args:
        given: the settings of the command line.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._folder = _private_folder()
        self._read: Set[str] = set()
        self._process = os.getpid()
        self.started = 0
        self.trained = 0
        os.environ[VARIABLE] = json.dumps({"folder": self._folder, "given": dict(given)})
        paths = [START, *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)

    def collect(self, state: AutoWarnings) -> None:
        """Add what children have found since the last call to that of this process.

        Args:
            state: the automatic warnings of this process.
        """
        if os.getpid() != self._process:
            return
        import pickle

        with contextlib.suppress(OSError):
            names = sorted(os.listdir(self._folder))
            self.started = sum(name.endswith(".started") for name in names)
            for name in names:
                if name in self._read or not name.endswith(".found"):
                    continue
                self._read.add(name)
                path = os.path.join(self._folder, name)
                with contextlib.suppress(Exception), open(path, "rb") as file:
                    # Written by a process of this user into a folder of this user alone.
                    self._add(state, pickle.load(file))

    def _add(self, state: AutoWarnings, found: Found) -> None:
        from dataclasses import replace

        self.trained += bool(found.reports)
        note = (
            f"process {found.rank} of {found.processes}"
            if found.processes > 1
            else "a child process"
        )
        for report in found.reports:
            state.log.keep(replace(report, notes=(note, *report.notes)))
        state.log.unseen.update(found.unseen)
        state.faults.extend(found.faults)

    def close(self) -> None:
        """Remove the folder; what children find from now on is lost."""
        if os.getpid() == self._process:
            import shutil

            shutil.rmtree(self._folder, ignore_errors=True)


def _private_folder() -> str:
    """A new temporary folder that only this user may open.

    `tempfile` would make one, too; to import it takes 20 ms.
    """
    places = [os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")]
    place = next(filter(None, places), "/tmp" if os.name == "posix" else os.getcwd())
    folder = os.path.join(os.path.abspath(place), f"bnguard-{os.urandom(8).hex()}")
    os.mkdir(folder, 0o700)
    return folder
