"""BNG609: callbacks that assign weights, and statistics that do not follow."""

from __future__ import annotations

from typing import Any, List

import numpy as np
import pytest

import keras_bnguard as bng
from tests.builders.harness import fit
from tests.builders.pipelines import compiled, rows, sequential
from tests.builders.values import as_array
from tests.stack import keras


class Average(keras.callbacks.Callback):
    """The mean of the trainable weights over the epochs, assigned when training ends."""

    def __init__(self) -> None:
        super().__init__()
        self.sums: List[Any] = []
        self.count = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = [as_array(v) for v in self.model.trainable_variables]
        self.sums = [s + n for s, n in zip(self.sums, now)] if self.count else now
        self.count += 1

    def on_train_end(self, logs: Any = None) -> None:
        for variable, total in zip(self.model.trainable_variables, self.sums):
            variable.assign(total / self.count)


class Lookahead(keras.callbacks.Callback):
    """Trainable weights go part of the way; all others are put back with them."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.old = self.model.get_weights()
        ids = {id(v) for v in self.model.trainable_weights}
        self.trains = [id(v) in ids for v in self.model.weights]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = self.model.get_weights()
        self.old = [o + 0.6 * (n - o) if t else o for o, n, t in zip(self.old, now, self.trains)]
        self.model.set_weights(self.old)


def train(callbacks: Any, first: bool = True, **settings: Any) -> Any:
    x, y = rows(64)
    model = compiled(sequential(), 0.1, "Adam")
    where = {"after" if first else "before": callbacks}
    return fit(model, x * 2.0 + 3.0, y, epochs=4, **where, **settings)


@pytest.mark.parametrize("first", [True, False])
def test_an_average_that_is_assigned_when_training_ends(first: bool) -> None:
    run = train([Average()], first)
    finding = run.finding("BNG609")
    assert list(finding.layers) == ["bn"]
    assert "test_weights_assigned_by_callbacks.py:" in str(finding.source)
    assert [m for m in run.messages if "BNG609" in m]


@pytest.mark.parametrize("first", [True, False])
def test_statistics_that_are_put_back_after_every_epoch(first: bool) -> None:
    run = train([Lookahead()], first)
    assert run.layers("BNG609") == ["bn"]
    assert run.finding("BNG609").evidence["put_back"] == "at start of epoch 1"


def test_it_is_ignored_where_the_user_asks() -> None:
    assert "BNG609" not in train([Average()], guard=bng.BNGuard(ignore="BNG609")).codes


def test_the_callbacks_are_as_they_were_afterwards() -> None:
    x, y = rows(64)
    model = compiled(sequential())
    mine = keras.callbacks.CallbackList([Average(), bng.BNGuard()], add_history=True, model=model)
    before = list(mine.callbacks)
    model.fit(x, y, epochs=2, verbose=0, callbacks=mine)
    assert all(one is other for one, other in zip(before, mine.callbacks))
    assert len(before) == len(mine.callbacks)
    assert np.isfinite(model.get_weights()[0]).all()
