"""Many layers in one array, against plain loops over the layers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_bnguard.statistics.layout import ChannelLayout, Vectors

NUMBER = st.floats(-1e3, 1e3, width=32)
LAYERS = st.lists(st.lists(NUMBER, min_size=1, max_size=5), min_size=1, max_size=6)


def joined(layers, dtype=np.float32):
    return np.array([value for layer in layers for value in layer], dtype)


@given(LAYERS)
def test_each_reduction_is_that_of_each_layer(layers):
    layout, values = ChannelLayout([len(layer) for layer in layers]), joined(layers)
    assert layout.largest(values).tolist() == [max(layer) for layer in layers]
    assert layout.smallest(values).tolist() == [min(layer) for layer in layers]
    assert layout.any(values > 0).tolist() == [max(layer) > 0 for layer in layers]
    assert layout.all(values > 0).tolist() == [min(layer) > 0 for layer in layers]
    means = layout.mean(values)
    assert means.dtype == np.float64
    np.testing.assert_allclose(means, [np.mean(layer) for layer in layers], rtol=1e-9, atol=1e-9)


@given(LAYERS)
def test_a_slice_is_the_layer_and_repeat_gives_each_channel_the_value_of_its_layer(layers):
    layout, values = ChannelLayout([len(layer) for layer in layers]), joined(layers)
    assert [values[layout.slice_of(i)].tolist() for i in range(len(layout))] == layers
    assert layout.repeat([len(layer) for layer in layers]).tolist() == [
        len(layer) for layer in layers for _ in layer
    ]


def test_no_layers_have_no_values():
    layout, nothing = ChannelLayout([]), np.zeros(0)
    for reduce in (layout.any, layout.all, layout.largest, layout.smallest, layout.mean):
        assert len(reduce(nothing)) == 0
    assert len(layout.repeat([])) == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_bit_of_the_mean_or_the_variance_is_a_difference(dtype):
    start = np.array([1, 2, 3, 4], dtype)
    for i in range(4):
        now = start.copy()
        now[i] = np.nextafter(now[i], dtype(9))
        assert Vectors(now).differs(Vectors(start)).tolist() == [i % 2 == 0, i % 2 == 1]


def test_minus_zero_and_nan_differ_from_zero_and_nan_not_from_itself():
    zero = Vectors(np.zeros(2, np.float32))
    assert Vectors(np.array([-0.0, 0.0], np.float32)).differs(zero).all()
    nan = Vectors(np.array([np.nan, 0.0], np.float32))
    assert nan.differs(zero).all()
    assert not nan.differs(nan).any()


def test_vectors_are_means_and_then_variances():
    vectors = Vectors(np.array([1, 2, 3, 4], np.float32))
    assert (vectors.mean.tolist(), vectors.variance.tolist(), len(vectors)) == ([1, 2], [3, 4], 4)
    assert vectors.joined().tolist() == [1, 2, 3, 4]
