"""The drift measures against plain loops, and what they do with NaN, zeros and negatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_bnguard.statistics.drift import (
    DriftMeter,
    bhattacharyya,
    log_variance_ratio,
    mean_shift,
)

NUMBER = st.floats(-1e3, 1e3, width=32)
VARIANCE = st.floats(0, 1e3, width=32)
EPSILON = st.floats(1e-6, 1e-1)


@st.composite
def channels(draw):
    """(mean, mean0, variance, variance0, epsilon) of one layer, float32."""
    size = draw(st.integers(1, 8))

    def vector(values):
        return np.array(draw(st.lists(values, min_size=size, max_size=size)), np.float32)

    return vector(NUMBER), vector(NUMBER), vector(VARIANCE), vector(VARIANCE), draw(EPSILON)


@given(channels())
def test_mean_shift_is_the_distance_in_standard_deviations_of_the_start(layer):
    mean, mean0, _, variance0, epsilon = layer
    expected = [
        abs(float(m) - float(m0)) / math.sqrt(float(v0) + epsilon)
        for m, m0, v0 in zip(mean, mean0, variance0)
    ]
    found = mean_shift(mean, mean0, variance0, np.full(len(mean), epsilon))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@given(channels())
def test_log_variance_ratio_is_the_size_of_the_log_of_the_ratio(layer):
    _, _, variance, variance0, epsilon = layer
    expected = [
        abs(math.log((float(v) + epsilon) / (float(v0) + epsilon)))
        for v, v0 in zip(variance, variance0)
    ]
    found = log_variance_ratio(variance, variance0, np.full(len(variance), epsilon))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@given(channels())
def test_both_are_zero_without_change_and_the_ratio_is_symmetric(layer):
    mean, mean0, variance, variance0, epsilon = layer
    assert not mean_shift(mean, mean, variance0, np.array(epsilon)).any()
    assert not log_variance_ratio(variance, variance, np.array(epsilon)).any()
    np.testing.assert_allclose(
        log_variance_ratio(variance, variance0, np.array(epsilon)),
        log_variance_ratio(variance0, variance, np.array(epsilon)),
        atol=1e-12,
    )
    assert np.array_equal(
        mean_shift(mean, mean0, variance0, np.array(epsilon)),
        mean_shift(mean0, mean, variance0, np.array(epsilon)),
    )


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_factor_of_two_either_way_is_log_two(factor):
    found = log_variance_ratio(np.array([factor]), np.array([1.0]), np.array(0.0))
    assert found[0] == pytest.approx(math.log(2.0))


def test_one_standard_deviation_is_one():
    shift = mean_shift(np.array([3.0]), np.array([1.0]), np.array([4.0]), np.array(0.0))
    assert shift[0] == 1.0


def test_epsilon_bounds_what_a_dead_channel_contributes():
    dead = np.zeros(1, np.float32)
    assert mean_shift(np.ones(1), np.zeros(1), dead, np.array(1e-2))[0] == pytest.approx(10.0)
    assert log_variance_ratio(dead, np.ones(1), np.array(1e-3))[0] == pytest.approx(
        math.log(1.001 / 1e-3)
    )


def test_a_negative_variance_counts_as_zero():
    negative, zero = np.array([-1.0]), np.array([0.0])
    assert np.array_equal(
        log_variance_ratio(negative, np.ones(1), np.array(1e-3)),
        log_variance_ratio(zero, np.ones(1), np.array(1e-3)),
    )
    assert np.array_equal(
        mean_shift(np.ones(1), np.zeros(1), negative, np.array(1e-3)),
        mean_shift(np.ones(1), np.zeros(1), zero, np.array(1e-3)),
    )


def test_nan_stays_nan():
    nan = np.array([np.nan])
    assert np.isnan(mean_shift(nan, np.zeros(1), np.ones(1), np.array(1e-3)))
    assert np.isnan(log_variance_ratio(nan, np.ones(1), np.array(1e-3)))


def test_float16_is_widened_before_it_is_subtracted():
    big = np.array([60000.0], np.float16)
    shift = mean_shift(big, -big, np.ones(1, np.float16), np.array(0.0))
    assert shift[0] == 2 * float(big[0])


# ------------------------------------------------------------------ all measures in one pass
@given(channels())
def test_one_pass_gives_what_the_three_functions_give(layer):
    mean, mean0, variance, variance0, epsilon = layer
    epsilons = np.full(len(mean), epsilon)
    found = DriftMeter(mean0, variance0, epsilons).measure(mean, variance)
    expected = (
        mean_shift(mean, mean0, variance0, epsilons),
        log_variance_ratio(variance, variance0, epsilons),
        bhattacharyya(mean, variance, mean0, variance0, epsilons),
    )
    for ours, exact in zip(found, expected):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-5)


@given(channels())
def test_one_pass_over_equal_statistics_gives_exactly_zero(layer):
    mean, _, variance, _, epsilon = layer
    found = DriftMeter(mean, variance, np.full(len(mean), epsilon)).measure(mean, variance)
    assert not any(np.any(values) for values in found)


@pytest.mark.parametrize("channels", [1, 10_000])
def test_one_pass_over_many_channels_is_as_over_each_alone(channels):
    rng = np.random.default_rng(0)
    mean, mean0, variance, variance0 = rng.uniform(0.1, 3, (4, channels))
    epsilon = rng.uniform(1e-5, 1e-2, channels)
    found = DriftMeter(mean0, variance0, epsilon).measure(mean, variance)
    assert found[0].dtype == np.float64
    np.testing.assert_allclose(found[0], mean_shift(mean, mean0, variance0, epsilon))
    np.testing.assert_allclose(
        found[2], bhattacharyya(mean, variance, mean0, variance0, epsilon), atol=1e-12
    )


def test_one_pass_keeps_nan_and_is_silent_about_negative_variances():
    start = DriftMeter(np.zeros(3), np.array([1.0, -2.0, 1.0]), np.full(3, 1e-3))
    found = start.measure(np.array([np.nan, 1.0, 0.0]), np.array([1.0, 0.0, np.nan]))
    assert np.isnan([found[0][0], found[1][2], found[2][0], found[2][2]]).all()
    assert np.isfinite([values[1] for values in found]).all()


# ------------------------------------------------------------------ Bhattacharyya distance
@given(channels())
def test_the_distance_is_minus_the_log_of_the_overlap_of_two_normal_densities(layer):
    mean, mean0, variance, variance0, epsilon = layer
    found = bhattacharyya(mean, variance, mean0, variance0, np.array(epsilon))
    for i, (m, m0, v, v0) in enumerate(zip(mean, mean0, variance, variance0)):
        s, s0 = float(v) + epsilon, float(v0) + epsilon
        # Kailath 1967, equation 8.
        expected = 0.25 * (float(m) - float(m0)) ** 2 / (s + s0)
        expected += 0.5 * math.log((s + s0) / (2 * math.sqrt(s) * math.sqrt(s0)))
        assert found[i] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_distance_agrees_with_the_integral_of_the_two_densities():
    x = np.linspace(-40, 40, 400001)

    def density(mean, variance):
        return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    overlap = np.sum(np.sqrt(density(1.0, 4.0) * density(-0.5, 0.3))) * (x[1] - x[0])
    arrays = [np.array([v]) for v in (1.0, 4.0, -0.5, 0.3)]
    assert bhattacharyya(*arrays, np.array(0.0))[0] == pytest.approx(-math.log(overlap), rel=1e-6)


@given(channels())
def test_the_distance_is_symmetric_and_never_negative(layer):
    mean, mean0, variance, variance0, epsilon = layer
    there = bhattacharyya(mean, variance, mean0, variance0, np.array(epsilon))
    back = bhattacharyya(mean0, variance0, mean, variance, np.array(epsilon))
    np.testing.assert_allclose(there, back, rtol=1e-9, atol=1e-15)
    assert np.all(there >= 0.0)


@given(channels())
def test_the_distance_is_zero_for_equal_statistics_and_for_no_other(layer):
    mean, mean0, variance, variance0, epsilon = layer
    same = bhattacharyya(mean, variance, mean, variance, np.array(epsilon))
    assert not same.any()
    found = bhattacharyya(mean, variance, mean0, variance0, np.array(epsilon))
    apart = np.abs(mean.astype(float) - mean0) > 1e-3 * np.sqrt(variance0 + epsilon)
    apart |= np.abs(np.log((variance + epsilon) / (variance0 + epsilon))) > 1e-3
    assert np.all(found[apart] > 0.0)


@given(channels(), st.floats(0.01, 100.0))
def test_the_distance_does_not_change_with_the_scale_of_a_channel(layer, scale):
    wide = [np.asarray(part, np.float64) for part in layer]
    mean, mean0, variance, variance0, epsilon = wide
    plain = bhattacharyya(mean, variance, mean0, variance0, epsilon)
    scaled = bhattacharyya(
        mean * scale, variance * scale**2, mean0 * scale, variance0 * scale**2, epsilon * scale**2
    )
    np.testing.assert_allclose(plain, scaled, rtol=1e-6, atol=1e-12)


def test_a_dead_channel_has_a_large_but_finite_distance_and_nan_stays_nan():
    one, dead, nan = np.ones(1), np.zeros(1), np.array([np.nan])
    assert 1.0 < bhattacharyya(one, dead, one, one, np.array(1e-3))[0] < 2.0
    assert 20.0 < bhattacharyya(one, np.array([1e30]), one, dead, np.array(1e-12))[0] < 50.0
    assert np.isnan(bhattacharyya(nan, one, one, one, np.array(1e-3)))
    assert np.isnan(bhattacharyya(one, nan, one, one, np.array(1e-3)))
