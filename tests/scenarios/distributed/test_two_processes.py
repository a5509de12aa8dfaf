"""Two processes that train together: one voice, one state, statistics of all rows.

The processes run once; the tests read what they left.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List, NamedTuple

import numpy as np
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


@pytest.mark.parametrize("mode", ["one-pass", "sequential"])
def test_shards_are_pooled_to_the_statistics_of_all_rows(done: Done, mode: str) -> None:
    chief, other = (each["recalibrated"] for each in done.results)
    assert chief[mode] == other[mode]
    for norm, vectors in chief[mode].items():
        for found, expected in zip(vectors, chief[f"{mode}, all rows"][norm]):
            np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


def test_the_mode_gap_of_shards_is_that_of_all_rows(done: Done) -> None:
    chief, other = (each["recalibrated"]["gap"] for each in done.results)
    assert chief[:2] == other[:2]
    assert chief[0] == chief[2] == 64
    assert chief[1] == pytest.approx(chief[3], rel=1e-5)


def test_data_that_fails_in_one_process_stops_both(done: Done) -> None:
    chief, other = (each["recalibrated"]["error"] for each in done.results)
    assert "process 1 failed" in chief
    assert other
    assert "process" not in other
