"""BNG110: a model that was compiled to train what another model's flags froze, and its cure."""

from __future__ import annotations

from typing import Any, Callable, Iterator, List, Tuple

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard import auto
from tests.builders.harness import SAME_FLAGS, fit
from tests.builders.pipelines import L, compiled, rows
from tests.stack import keras

STEPS = 6
pytestmark = pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")


@pytest.fixture(autouse=True)
def watching() -> Iterator[None]:
    before = len(auto.internal_errors())
    bng.enable_warnings(on_finding=lambda finding: None, fix=True)
    yield
    bng.disable_warnings()
    assert auto.internal_errors()[before:] == []


def gan() -> Tuple[Any, Any]:
    """The discriminator, and a model that trains a generator through it; the flag is set once."""
    judge = keras.Sequential(
        [keras.Input((8,)), L.Dense(6), L.BatchNormalization(), L.Dense(1, "sigmoid")], name="judge"
    )
    compiled(judge)
    noise = keras.Input((4,))
    made = L.BatchNormalization()(L.Dense(8)(noise))
    judge.trainable = False
    return judge, compiled(keras.Model(noise, judge(made), name="both"))


def train(judge: Any, both: Any, steps: int, before: Callable[[bool], None]) -> None:
    x, y = rows(16)
    noise = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
    for _ in range(steps):
        before(True)
        judge.train_on_batch(x, y)
        before(False)
        both.train_on_batch(noise, y)


def as_is(trains: bool) -> None:
    """The flags stay as they were set once."""


def findings() -> List[Any]:
    bng.disable_warnings()
    return [finding for report in auto.reports() for finding in report.findings]


def changed(model: Any, work: Callable[[], None]) -> int:
    before = model.get_weights()
    work()
    return sum(not np.array_equal(a, b) for a, b in zip(before, model.get_weights()))


@pytest.mark.parametrize("steps", [2, STEPS])
def test_the_classical_gan_is_one_finding_where_the_flags_are_read_late(steps: int) -> None:
    judge, both = gan()
    moved = changed(judge, lambda: train(judge, both, steps, as_is))
    assert bool(moved) is SAME_FLAGS
    found = findings()
    if SAME_FLAGS:
        assert found == []
        return
    (finding,) = found
    assert finding.code == "BNG110"
    assert len(finding.layers) == 3
    assert finding.evidence["frozen_for"] == "both"
    assert ".py:" in str(finding.evidence["frozen_at"])
    assert finding.repaired is None


def test_the_printed_fix_trains_both_models() -> None:
    if SAME_FLAGS:
        return
    judge, both = gan()
    train(judge, both, 2, as_is)
    (finding,) = findings()
    judge, both = gan()
    on, off = [
        line.strip().replace(finding_name(line), "judge")
        for line in finding.fix.splitlines()
        if line.strip().endswith(("trainable = True", "trainable = False"))
    ]

    def before(trains: bool) -> None:
        exec(on if trains else off, {"judge": judge})

    bng.enable_warnings(on_finding=lambda finding: None)
    assert changed(judge, lambda: train(judge, both, STEPS, before)) == len(judge.get_weights())
    assert findings() == []


def finding_name(line: str) -> str:
    return line.strip().split(".", 1)[0]


def test_a_discriminator_that_trains_in_fit() -> None:
    judge, _ = gan()
    bng.disable_warnings()
    run = fit(judge, *rows(96))
    assert ("BNG110" in run.codes) is not SAME_FLAGS
    assert "BNG101" not in run.codes
    assert "BNG401" not in run.codes
