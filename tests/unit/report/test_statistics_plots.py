"""Figures of drift, recalibration and mode gap: what is in them, and one clear error each."""

from __future__ import annotations

import dataclasses
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import keras_bnguard as bng
from keras_bnguard.records import DriftSnapshot, NormState
from keras_bnguard.report.report import Report
from tests.builders.reports import epoch_end, snapshots

pytestmark = pytest.mark.needs_extra


def report(drift):
    return Report("net", None, drift=tuple(drift))


def test_the_heat_map_has_a_cell_for_each_layer_and_check(tmp_path):
    drift = snapshots(3, 5)
    figure = bng.plot_drift(report(drift), path=str(tmp_path / "drift.png"))
    axes, bar = figure.axes
    values = axes.images[0].get_array()
    assert values.shape == (3, 5)
    assert values[2, 4] == pytest.approx(drift[4].distance["backbone/block3_bn"])
    assert [label.get_text() for label in axes.get_yticklabels()] == list(drift[0].distance)
    assert "Bhattacharyya" in bar.get_ylabel()
    assert (tmp_path / "drift.png").stat().st_size > 1000


@pytest.mark.parametrize("measure", ["mean_shift", "log_variance_ratio"])
def test_it_shows_the_measure_that_was_asked_for(measure):
    drift = snapshots(2, 2)
    values = bng.plot_drift(report(drift), measure).axes[0].images[0].get_array()
    assert values[1, 1] == pytest.approx(getattr(drift[1], measure)["backbone/block2_bn"])


def test_what_is_not_finite_is_red_and_what_is_missing_is_not():
    drift = [
        DriftSnapshot(epoch_end(0), 0, 1, {"x": 1.0}),
        DriftSnapshot(epoch_end(1), 1, 2, {"x": np.nan}),
    ]
    drift.append(DriftSnapshot(epoch_end(2), 2, 3, {"y": 1.0}))
    red = bng.plot_drift(report(drift)).axes[0].images[1].get_array()
    assert (red[..., 3] > 0).tolist() == [[False, True, False], [False, False, False]]


def test_what_is_over_the_limit_of_bng406_is_marked():
    drift = [DriftSnapshot(epoch_end(n), n, n, {"x": 0.06 * n, "y": 0.01}) for n in (1, 2)]
    figure = bng.plot_drift(report(drift))
    axes, bar = figure.axes
    (marks,) = axes.lines
    assert marks.get_xydata().tolist() == [[1, 0]]
    (words,) = axes.get_legend().get_texts()
    assert "BNG406, 0.1" in words.get_text()
    assert bar.lines[-1].get_ydata()[0] == pytest.approx(0.1)
    assert "net" in figure.get_suptitle()
    assert bng.plot_drift(report(drift[:1])).axes[0].get_legend() is None


def test_of_very_many_layers_some_are_named():
    axes = bng.plot_drift(report(snapshots(200, 2))).axes[0]
    assert axes.images[0].get_array().shape == (200, 2)
    assert len(axes.get_yticklabels()) <= 40


def states(mean, variance):
    return NormState(np.full(4, mean, "float32"), np.full(4, variance, "float32"))


def test_before_and_after_a_recalibration_stand_beside_each_other():
    result = SimpleNamespace(
        before={"a": states(0, 1), "b": states(1, 2)}, after={"a": states(3, 4), "b": states(5, 6)}
    )
    means, variances = bng.plot_recalibration(result).axes
    assert [line.get_xdata().tolist() for line in means.lines] == [[0, 1], [3, 5]]
    assert [line.get_xdata().tolist() for line in variances.lines] == [[1, 2], [4, 6]]
    assert variances.get_xscale() == "log"
    result.after["a"] = states(3, 0)
    assert bng.plot_recalibration(result).axes[1].get_xscale() == "linear"


def test_a_mode_gap_is_two_bars_for_each_number():
    from keras_bnguard.data.mode_gap import ModeGap

    gap = ModeGap({"loss": 0.5, "accuracy": 0.9}, {"loss": 2.0, "accuracy": 0.4},
                  {"loss": 0.1, "accuracy": float("nan")}, 64, 2, 3)  # fmt: skip
    panels = bng.plot_mode_gap(gap).axes
    assert [bar.get_height() for bar in panels[0].patches] == [0.5, 2.0]
    assert "+1.5" in panels[0].get_title()
    assert "-0.5" in panels[1].get_title()


def test_bad_input_gets_one_clear_error(monkeypatch):
    with pytest.raises(bng.SettingError, match="no drift"):
        bng.plot_drift(report(()))
    with pytest.raises(bng.SettingError, match="mean_shift"):
        bng.plot_drift(report(snapshots()), "kl")
    with pytest.raises(bng.SettingError, match="no BN"):
        bng.plot_recalibration(SimpleNamespace(before={}, after={}))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(bng.MissingExtraError, match="report"):
        bng.plot_drift(dataclasses.replace(report(snapshots())))
