"""Two processes that train together: one voice, one state, statistics of all rows.

The processes run once; the tests read what they left.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List, NamedTuple

import pytest

from tests.builders.workers import Ended, run_workers
from tests.stack import BACKEND, IS_KERAS3

KERAS_FITS = BACKEND != "tensorflow" or not IS_KERAS3
"""`fit` of Keras 3 fails under MultiWorkerMirroredStrategy, without this package as well."""


class Done(NamedTuple):
    """Two processes that have ended.

    Attributes:
        folder: what they wrote.
        ended: how each ended.
        results: what each measured.
    """

    folder: Path
    ended: List[Ended]
    results: List[Any]


@pytest.fixture(scope="module")
def done(tmp_path_factory: Any) -> Done:
    folder = tmp_path_factory.mktemp("two_processes")
    kind = "tf" if BACKEND == "tensorflow" else "torchrun"
    ended = run_workers(["-m", "tests.builders.two_workers", str(folder)], kind=kind)
    assert [each.code for each in ended] == [0, 0], "\n".join(each.err[-3000:] for each in ended)
    results = [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(2)]
    return Done(folder, ended, results)


def test_each_process_knows_its_place(done: Done) -> None:
    assert [(each["rank"], each["count"]) for each in done.results] == [(0, 2), (1, 2)]


if KERAS_FITS:

    def test_the_chief_alone_prints_and_warns(done: Done) -> None:
        chief, other = done.ended
        for line in ("BN layer ", "PhaseScheduler: epoch 2", "Recalibrate: "):
            assert line in chief.out
        lines = [line for line in other.out.splitlines() if not line.startswith("[Gloo]")]
        assert lines == []
        assert "BNGuardWarning" not in other.err

    def test_the_chief_alone_writes_reports_and_events(done: Done) -> None:
        assert len(list((done.folder / "events").iterdir())) == 1
        assert json.loads((done.folder / "report.json").read_text())["findings"] is not None
        written = {each.name for each in done.folder.iterdir()}
        assert written == {"events", "report.json", "state", "result-0.json", "result-1.json"}
