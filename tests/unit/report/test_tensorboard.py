"""Drift and findings as TensorBoard reads them: event files, parsed here record by record."""

from __future__ import annotations

import math
import struct
import sys

import pytest
from hypothesis import given, settings

from keras_bnguard.errors import MissingExtraError
from keras_bnguard.records import DriftSnapshot
from keras_bnguard.report import text
from keras_bnguard.report.tensorboard import CHARTS, DriftWriter, check_tensorboard
from tests.builders.reports import epoch_end, faulty, hostile, reports, snapshots


def events(folder):
    """All events of the one file in a folder."""
    from tensorboard.compat.proto.event_pb2 import Event

    (path,) = folder.iterdir()
    assert path.name.startswith("events.out.tfevents.")
    data, found = path.read_bytes(), []
    while data:
        # Length, its checksum, the event, its checksum.
        (size,) = struct.unpack_from("<Q", data)
        found.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    return found


def scalars(folder):
    """Tag -> {step: value}."""
    found = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def shown_text(folder):
    (value,) = (v for e in events(folder) for v in e.summary.value if v.tag == "keras_bnguard")
    assert value.metadata.plugin_data.plugin_name == "text"
    (written,) = value.tensor.string_val
    return written.decode("utf-8")


@pytest.mark.needs_extra
def test_each_layer_has_a_curve_over_the_steps(tmp_path):
    writer = DriftWriter(tmp_path)
    for snapshot in snapshots(3, 4):
        writer.write(snapshot)
    writer.close()
    found = scalars(tmp_path)
    paths = [f"backbone/block{i}_bn" for i in (1, 2, 3)]
    assert set(found) == {"bn_drift"} | {
        f"{tag}/{path}"
        for tag in ("bn_mean_shift", "bn_log_variance_ratio", "bn_distance")
        for path in paths
    }
    for tag in found:
        assert list(found[tag]) == [10, 20, 30, 40]
    last = snapshots(3, 4)[-1]
    assert found["bn_drift"][40] == pytest.approx(last.total)
    assert found[f"bn_mean_shift/{paths[0]}"][40] == pytest.approx(last.mean_shift[paths[0]])
    assert found[f"bn_distance/{paths[2]}"][40] == pytest.approx(last.distance[paths[2]])


@pytest.mark.needs_extra
def test_of_many_layers_neighbours_share_a_chart_with_the_largest_value(tmp_path):
    names = [f"base/bn{number}" for number in range(52)]
    writer = DriftWriter(tmp_path)
    values = {name: float(number) for number, name in enumerate(names)}
    writer.write(DriftSnapshot(epoch_end(0), 0, 10, values, {}, {**values, "base/bn50": math.nan}))
    writer.close()
    found = scalars(tmp_path)
    shifts = {tag: curve[10] for tag, curve in found.items() if tag.startswith("bn_distance/")}
    assert len(shifts) == CHARTS
    assert shifts["bn_distance/1 base.bn0 to base.bn5"] == 5.0
    assert list(shifts.values()) == sorted(shifts.values())
    assert max(shifts.values()) == 51.0
    assert math.isnan(found["bn_log_variance_ratio/8 base.bn45 to base.bn51"][10])
    assert len(found) == 1 + 2 * CHARTS


@pytest.mark.needs_extra
def test_a_file_starts_with_its_version(tmp_path):
    writer = DriftWriter(str(tmp_path / "a" / "b"))
    writer.write(snapshots()[0])
    writer.close()
    first = events(tmp_path / "a" / "b")[0]
    assert first.file_version == "brain.Event:2"


@pytest.mark.needs_extra
def test_nothing_is_written_before_the_first_check(tmp_path):
    writer = DriftWriter(tmp_path / "logs")
    writer.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.needs_extra
def test_a_killed_run_has_all_it_saw(tmp_path):
    writer = DriftWriter(tmp_path)
    writer.write(snapshots()[0])
    assert list(scalars(tmp_path)["bn_drift"]) == [10]
    writer.write(snapshots()[1])
    assert list(scalars(tmp_path)["bn_drift"]) == [10, 20]
    writer.close()
    writer.close()


@pytest.mark.needs_extra
def test_two_checks_at_one_step_are_both_kept(tmp_path):
    writer = DriftWriter(tmp_path)
    for shift in (0.25, 0.5):
        writer.write(DriftSnapshot(epoch_end(0), 0, 10, {"bn": shift}))
    writer.close()
    assert scalars(tmp_path)["bn_drift"] == {10: 0.25, 11: 0.5}


@pytest.mark.needs_extra
@pytest.mark.parametrize("report", [faulty(), hostile()])
def test_the_report_stands_there_as_text_that_markdown_leaves_alone(tmp_path, report):
    writer = DriftWriter(tmp_path)
    writer.write(snapshots()[-1])
    writer.finish(report)
    lines = shown_text(tmp_path).splitlines()
    assert all(line.startswith("    ") for line in lines)
    assert "\n".join(line[4:] for line in lines).rstrip() == text.render(report).rstrip()
    assert events(tmp_path)[-1].step == 60


@pytest.mark.needs_extra
@given(report=reports)
@settings(max_examples=25)
def test_any_report_can_be_written(tmp_path_factory, report):
    folder = tmp_path_factory.mktemp("logs")
    writer = DriftWriter(folder)
    for snapshot in report.drift:
        writer.write(snapshot)
    writer.finish(report)
    assert shown_text(folder)
    assert ("bn_drift" in scalars(folder)) == bool(report.drift)


def test_without_tensorboard_it_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'keras_bnguard\[tensorboard\]'"):
        check_tensorboard()
    with pytest.raises(MissingExtraError):
        DriftWriter(tmp_path)
