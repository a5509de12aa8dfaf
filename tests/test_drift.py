"""The drift measures against plain loops, and what they do with NaN, zeros and negatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_bnguard.drift import log_variance_ratio, mean_shift, per_layer

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


@given(st.lists(st.lists(NUMBER, min_size=1, max_size=5), min_size=1, max_size=6))
def test_per_layer_is_mean_and_maximum_of_each_layer(layers):
    sizes = [len(layer) for layer in layers]
    offsets = np.cumsum([0, *sizes[:-1]])
    joined = np.array([value for layer in layers for value in layer], np.float64)
    mean, maximum = per_layer(joined, offsets)
    np.testing.assert_allclose(mean, [np.mean(layer) for layer in layers], rtol=1e-9, atol=1e-9)
    assert maximum.tolist() == [max(layer) for layer in layers]


def test_per_layer_of_nothing_is_nothing():
    mean, maximum = per_layer(np.zeros(0), np.zeros(0, int))
    assert len(mean) == len(maximum) == 0
