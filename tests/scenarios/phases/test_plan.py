"""The plan table, the dry run, the summary, the picture, and copies of the callback."""

from __future__ import annotations

import copy
import pickle
import re
import sys
import warnings

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
    assert "epochs 1-1" in schedule.summary()
    assert "epochs 1-1" in schedule.summary()
    assert schedule.phase.name == "all"


def test_the_plan_names_the_bn_in_inference_mode_and_why():
    phases = [
        bng.Phase("head", train="head*", epochs=1),
        bng.Phase("all", train="*", epochs=1),
        bng.Phase("affine", train="head*", batch_norm="affine-only", epochs=1),
        bng.Phase("follow", train="*", batch_norm="follow"),
    ]
    notes = bng.PhaseScheduler(phases).plan(r.transfer()).splitlines()[5:]
    both = "backbone/bn1, backbone/bn2"
    assert notes == [
        f"head: 2 BN in inference mode, frozen: {both}",
        f"all: 2 BN in inference mode, as they have trained statistics: {both}",
        f"affine: 2 BN in inference mode, frozen: {both}",
        'affine: 1 BN in inference mode, by batch_norm="affine-only": head_bn',
    ]
    if not r.IS_KERAS3:
        (written,) = (
            bng.PhaseScheduler(phases[3:]).plan(r.transfer(training=False)).splitlines()[2:]
        )
        assert written.startswith("follow: 2 BN in inference mode, as the graph calls them")


def test_a_phase_that_trains_what_the_one_before_did_is_a_line_of_the_plan_and_if_equal_a_warning():
    first = bng.Phase("a", train="head*", learning_rate=1e-2, epochs=1)
    lower = bng.Phase("b", train="head*", learning_rate=1e-3, epochs=1)
    equal = bng.Phase("c", train=["head_bn", "head_dense", "head_out"], learning_rate=1e-3)
    schedule = r.scheduler([first, lower, equal])
    notes = schedule.plan(r.transfer()).splitlines()
    assert notes[-2:] == [
        "b: trains the same layers as a",
        "c: trains the same layers as b, in the same way",
    ]
    for _ in range(2):  # In every fit of a process.
        with warnings.catch_warnings(record=True) as reported:
            warnings.simplefilter("default")
            r.fit(r.compiled(r.transfer()), 3, [schedule])
        (text,) = [str(w.message) for w in reported if w.category is bng.BNGuardWarning]
        assert text.startswith("phase 'c' trains just what phase 'b' does")


@pytest.mark.parametrize(
    "differs",
    [
        {"learning_rate": 2e-3},
        {"learning_rate": bng.RelativeRate(0.5)},
        {"batch_norm": "affine-only"},
        {"warmup": 2},
        {"layer_decay": 0.5},
        {"optimizer_state": "reset"},
    ],
)
def test_a_phase_that_differs_in_anything_is_no_warning(differs):
    first = bng.Phase("a", train="*", learning_rate=1e-3, epochs=1)
    r.fit(
        r.compiled(r.transfer()),
        2,
        [r.scheduler([first, bng.Phase("b", **{"train": "*", "learning_rate": 1e-3, **differs})])],
    )


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
