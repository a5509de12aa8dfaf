"""The plan table, the dry run, the summary, the picture, and copies of the callback."""

from __future__ import annotations

import copy
import pickle
import re
import sys

import pytest

import keras_bnguard as bng
from tests.builders import schedules as r


def test_a_dry_run_prints_the_table_and_changes_nothing():
    model = r.transfer()
    before = r.weights(model), r.trainable_names(model)
    table = bng.PhaseScheduler(r.head_then_all()).plan(model)
    lines = table.splitlines()
    assert re.split(r"\s{2,}", lines[0]) == ["phase", "trains", "parameters", "BN inference",
                                             "BN training", "learning rate", "ends"]  # fmt: skip
    assert lines[1].split()[:3] == ["head", "3", "layers"]
    assert "100 %" in lines[2]
    assert max(map(len, lines)) <= 100
    assert r.same(before[0], r.weights(model))
    assert before[1] == r.trainable_names(model)
    assert getattr(model, "optimizer", None) is None


def test_fit_prints_the_plan_and_each_transition(capsys):
    schedule = bng.PhaseScheduler(r.head_then_all(1, 1))
    assert schedule.summary() == "head: not started\nall: not started"
    r.fit(r.compiled(r.transfer()), 2, [schedule])
    printed = capsys.readouterr().out
    assert "BN inference" in printed
    assert printed.count("phase 'all' begins") == 1
    assert "epochs 0-0" in schedule.summary()
    assert "epochs 1-1" in schedule.summary()
    assert schedule.phase.name == "all"


def test_the_picture_shows_what_happened(tmp_path):
    schedule = r.scheduler(r.head_then_all(1, 1))
    with pytest.raises(bng.ScheduleError, match="nothing to plot"):
        schedule.plot()
    r.fit(r.compiled(r.transfer()), 2, [schedule], validation_data=r.data())
    figure = schedule.plot(tmp_path / "phases.png")
    assert (tmp_path / "phases.png").stat().st_size > 5000
    losses, learning_rates, shares = figure.axes
    assert [line.get_label() for line in losses.lines] == ["loss", "val_loss"]
    assert [text.get_text() for text in losses.texts] == ["head", "all"]
    assert list(learning_rates.lines[0].get_ydata()) == pytest.approx([1e-2, 1e-5])
    assert shares.lines[0].get_ydata()[-1] == 100.0


def test_without_matplotlib_the_picture_names_what_to_install(monkeypatch):
    schedule = r.scheduler([bng.Phase("a", train="*")])
    r.fit(r.compiled(r.transfer()), 1, [schedule])
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(bng.MissingExtraError, match="pip install"):
        schedule.plot()


@pytest.mark.parametrize("way", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_are_fresh_schedulers(way):
    schedule = r.scheduler(r.head_then_all(1, 1))
    r.fit(r.compiled(r.transfer()), 2, [schedule])
    again = way(schedule)
    assert again.phases == schedule.phases
    assert again.phase is None
    assert not again.history
