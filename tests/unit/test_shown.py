"""What results look like in a terminal and in a notebook."""

import warnings

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.records import Advice, Policy
from tests.builders.models import backbone, compiled, data, transfer


def of_results():
    x, y = data(32)
    model = compiled(transfer())
    guard = bng.BNGuard(on_finding="log")
    scheduler = bng.PhaseScheduler(
        [
            bng.Phase("head", train=bng.LastLayers(1), learning_rate=1e-3, epochs=1),
            bng.Phase("all", train="*", learning_rate=1e-4, epochs=1),
        ],
        verbose=0,
    )
    new = [repr(guard), repr(scheduler)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x, y, epochs=2, verbose=0, callbacks=[scheduler, guard])
    base = backbone()
    base.trainable = False
    found = [
        guard,
        scheduler,
        guard.report,
        bng.recalibrate(model, x, layers="*"),
        bng.mode_gap(model, (x, y)),
        bng.precompute_features(base, (x, y), inference_only=True),
    ]
    return new, found


@pytest.fixture(scope="module")
def results():
    return of_results()


def test_a_repr_is_one_short_line(results):
    new, found = results
    assert new == ["<BNGuard: not used yet>", "<PhaseScheduler: 2 phases (head, all)>"]
    for each in found:
        text = repr(each)
        assert "\n" not in text
        assert text.startswith(f"<{type(each).__name__}")
        assert len(text) < 200, text
    guard, scheduler, report, done, gap, features = map(repr, found)
    assert report[len("<Report of net") :].startswith(": ")
    assert guard.startswith("<BNGuard: ")
    assert "not used" not in guard
    assert "2 epochs done" in scheduler
    assert "2 BN, one-pass; undo() restores" in done
    assert "loss " in gap
    assert "x (32, 5) float32, y (32, 1) float32" in features


def test_a_notebook_shows_html_of_all_of_it(results):
    for each in results[1]:
        html = each._repr_html_()
        assert html.startswith("<")
        assert "object at 0x" not in html


def test_a_recalibration_prints_a_row_for_each_bn(results):
    done = results[1][3]
    lines = str(done).splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(done.paths)
    before, after = done.before[done.paths[0]], done.after[done.paths[0]]
    shift = np.max(np.abs(after.mean - before.mean) / np.sqrt(before.variance))
    assert f"{shift:.3g}" in lines[1]


def test_a_report_of_a_run_with_phases_has_them(results, tmp_path):
    report = results[1][2]
    assert [row["phase"] for row in report.phases] == ["head", "all"]
    report.save(tmp_path / "r.json")
    assert '"phase": "head"' in (tmp_path / "r.json").read_text(encoding="utf-8")


def test_an_advice_is_one_line():
    advice = Advice(Policy.FROZEN, True, "why", "accuracy", (), ("bn",), 10, 6, 20, 20, "code")
    assert repr(advice) == "<Advice: frozen; 1 BN, 6 trial trainings>"
    assert "why" in advice._repr_html_()
