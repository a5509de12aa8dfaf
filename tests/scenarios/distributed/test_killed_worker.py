"""SIGKILL of one of two processes, restart of both: the end of a run that was never stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest

from tests.builders.workers import run_workers
from tests.stack import BACKEND, IS_KERAS3

pytestmark = pytest.mark.slow
NOBODY = 9
KERAS_RESUMES_WITHIN = 0.0 if IS_KERAS3 else 2e-6
"""Keras 2 alone does not resume to the bit under MultiWorkerMirroredStrategy."""


def train(folder: Path, killed: int = NOBODY, step: int = 0) -> List[int]:
    command = ["-m", "tests.builders.two_workers_killed", str(folder), str(killed), str(step)]
    ended = run_workers(command, kind="tf" if BACKEND == "tensorflow" else "torchrun")
    for each in ended:
        assert "Error" not in each.err or min(e.code for e in ended) < 0, each.err[-3000:]
    return [each.code for each in ended]


def end_of(folder: Path, rank: int) -> Tuple[List[Any], List[np.ndarray]]:
    with np.load(folder / f"end-{rank}.npz") as stored:
        arrays = [stored[f"arr_{i}"] for i in range(len(stored.files) - 1)]
        return json.loads(str(stored["history"])), arrays


if BACKEND != "tensorflow" or not IS_KERAS3:

    @pytest.mark.parametrize(("killed", "step"), [(1, 7), (0, 10)])
    def test_a_killed_worker_ends_as_one_that_was_never_stopped(
        killed: int, step: int, tmp_path: Path
    ) -> None:
        whole, torn = tmp_path / "whole", tmp_path / "torn"
        whole.mkdir()
        torn.mkdir()
        assert train(whole) == [0, 0]
        assert train(torn, killed, step)[killed] == -9
        assert {each.name for each in (torn / "state").iterdir()} <= {
            f"phases-{epoch:06d}.npz" for epoch in range(6)
        }
        assert train(torn) == [0, 0]
        for rank in range(2):
            history, weights = end_of(whole, rank)
            resumed, found = end_of(torn, rank)
            assert resumed == history[-len(resumed) :]
            assert len({phase for _, phase in history}) == 3
            for one, other in zip(weights, found):
                np.testing.assert_allclose(other, one, rtol=0, atol=KERAS_RESUMES_WITHIN)
        assert end_of(whole, 0)[0] == end_of(whole, 1)[0]
