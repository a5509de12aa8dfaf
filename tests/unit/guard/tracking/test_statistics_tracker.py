"""The numbers: what changed, bit for bit, and which channels are not valid."""

from __future__ import annotations

import numpy as np
import pytest

from keras_bnguard.guard.tracking.statistics_tracker import StatisticsTracker
from keras_bnguard.model.snapshot import take_snapshot
from keras_bnguard.records import ExpectedMode, Moment, MomentKind
from keras_bnguard.statistics.drift import bhattacharyya, log_variance_ratio, mean_shift


def vector(*values):
    return np.array(values, np.float32)


@pytest.fixture
def model(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.BatchNormalization(name="one", epsilon=1e-2),
            layers.Dense(2),
            layers.BatchNormalization(name="two", scale=False, trainable=False),
        ],
        name="net",
    )


def put(layer, mean=None, variance=None, first=()):
    """Assign moving mean and variance (and gamma, beta) of a BN."""
    weights = layer.get_weights()
    n = len(weights)
    for index, value in zip((n - 2, n - 1), (mean, variance)):
        if value is not None:
            weights[index] = np.array(value, np.float32)
    for index, value in enumerate(first):
        weights[index] = np.array(value, np.float32)
    layer.set_weights(weights)


def tracker_of(model):
    return StatisticsTracker(take_snapshot(model))


def by_path(tracker, steps=1, calls=None):
    return {m.path: m for m in tracker.changes(calls or {}, steps)}


def test_nothing_is_changed_before_an_assignment(model):
    tracker = tracker_of(model)
    tracker.update()
    rows = by_path(tracker)
    assert list(rows) == ["one", "two"]
    assert not any(m.changed or m.changed_since_last for m in rows.values())
    assert all(m.mean_shift == m.log_variance_ratio == 0.0 for m in rows.values())
    assert rows["one"].expected is ExpectedMode.TRAINING
    assert (rows["two"].expected, rows["two"].why) == (
        ExpectedMode.INFERENCE,
        "its own trainable is False",
    )


@pytest.mark.parametrize("part", ["mean", "variance"])
def test_one_bit_of_one_channel_is_a_change(model, part):
    layer = model.get_layer("two")
    put(layer, [1, 1], [1, 1])
    tracker = tracker_of(model)
    put(layer, **{part: [1, np.nextafter(np.float32(1), np.float32(2))]})
    tracker.update()
    rows = by_path(tracker)
    assert rows["two"].changed
    assert not rows["one"].changed


def test_minus_zero_and_nan_are_changes_too(model):
    for value in (-0.0, np.nan):
        tracker = tracker_of(model)
        put(model.get_layer("one"), [value, 0, 0])
        tracker.update()
        assert by_path(tracker)["one"].changed


def test_changed_since_last_compares_with_the_update_before(model):
    tracker = tracker_of(model)
    put(model.get_layer("one"), [1, 0, 0])
    tracker.update()
    tracker.update()
    row = by_path(tracker)["one"]
    assert row.changed
    assert not row.changed_since_last


def test_drift_is_the_formula_with_the_layers_own_epsilon(model):
    one = model.get_layer("one")
    start = [0.5, 1.0, 2.0], [0.1, 1.0, 4.0]
    now = [1.0, 1.0, -2.0], [0.2, 1.0, 1.0]
    put(one, *start)
    tracker = tracker_of(model)
    put(one, *now)
    tracker.update()
    shift = mean_shift(vector(*now[0]), vector(*start[0]), vector(*start[1]), np.array(1e-2))
    ratio = log_variance_ratio(vector(*now[1]), vector(*start[1]), np.array(1e-2))
    row, snapshot = by_path(tracker)["one"], tracker.drift(Moment(MomentKind.EPOCH_END, 0), 0, 7)
    assert row.mean_shift == snapshot.mean_shift["one"] == pytest.approx(shift.mean())
    assert (
        row.log_variance_ratio == snapshot.log_variance_ratio["one"] == pytest.approx(ratio.mean())
    )
    assert row.max_mean_shift == pytest.approx(shift.max())
    means, variances = (vector(*now[0]), vector(*start[0])), (vector(*now[1]), vector(*start[1]))
    apart = bhattacharyya(means[0], variances[0], means[1], variances[1], np.array(1e-2))
    assert snapshot.distance["one"] == pytest.approx(apart.mean())
    assert snapshot.distance["two"] == 0.0
    assert (snapshot.mean_shift["two"], snapshot.steps) == (0.0, 7)
    assert snapshot.total == snapshot.distance["one"]


def test_channels_that_are_not_valid_are_counted(model):
    one = model.get_layer("one")
    put(one, [1, 1, 1], [-1, 1, 4])
    tracker = tracker_of(model)
    row = by_path(tracker, 0)["one"]
    assert (row.negative_channels, row.dead_channels, row.nonfinite) == (1, 0, ())
    assert (row.min_variance, row.median_variance) == (-1.0, 1.0)
    put(one, [np.nan, 1, 1], [1, np.inf, 1], first=([1, 1, 1], [0, np.nan, 0]))
    tracker.update()
    assert by_path(tracker)["one"].nonfinite == ("moving_mean", "moving_variance", "beta")
    assert by_path(tracker)["two"].nonfinite == ()


def test_gamma_and_beta_are_read_only_where_a_trainable_bn_is_not_updated(model):
    one = model.get_layer("one")
    tracker = tracker_of(model)
    tracker.update()
    assert by_path(tracker, 1)["one"].affine_changed is False
    assert by_path(tracker, 0)["one"].affine_changed is None
    assert by_path(tracker, 1)["two"].affine_changed is None
    put(one, first=([1, 2, 1],))
    assert by_path(tracker, 1)["one"].affine_changed is True
    put(one, [1, 0, 0])
    tracker.update()
    assert by_path(tracker, 1)["one"].affine_changed is None


def test_default_statistics_at_the_start_are_remembered(model):
    put(model.get_layer("two"), [1, 0])
    tracker = tracker_of(model)
    put(model.get_layer("one"), [1, 0, 0])
    tracker.update()
    rows = by_path(tracker)
    assert rows["one"].started_at_default
    assert not rows["two"].started_at_default


def test_bn_built_since_the_start_is_included_and_the_others_keep_their_start(keras, model):
    class Late(keras.Model):
        def __init__(self):
            super().__init__(name="late")
            self.ready = keras.layers.BatchNormalization(name="ready")
            self.ready.build((None, 3))
            self.later = keras.layers.BatchNormalization(name="later")

        def call(self, x, training=None):
            return self.later(self.ready(x, training=training), training=training)

    late = Late()
    tracker = tracker_of(late)
    assert tracker.paths == ("ready",)
    put(late.ready, [5, 0, 0])
    late.later.build((None, 3))
    tracker.update()
    rows = by_path(tracker)
    assert rows["ready"].changed
    assert rows["ready"].max_mean_shift == pytest.approx(5 / np.sqrt(1.001))
    assert not rows["later"].changed


def test_a_model_without_bn_has_no_change_and_no_drift(keras):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    tracker = tracker_of(model)
    tracker.update()
    assert tracker.changes({}, 1) == ()
    assert tracker.drift(Moment(MomentKind.CHECK), None, 1).total == 0.0


def test_what_was_read_is_a_copy(model):
    tracker = tracker_of(model)
    layer = model.get_layer("one")
    layer.moving_mean.assign(np.full(3, 7.0, np.float32))
    tracker.update()
    assert by_path(tracker)["one"].changed
    assert by_path(tracker)["one"].started_at_default
