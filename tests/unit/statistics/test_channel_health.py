"""Which channels count as dead."""

from __future__ import annotations

import numpy as np
import pytest

from keras_bnguard.statistics.channel_health import dead_channels

GAMMA = np.ones(4, np.float32)


def vector(*values):
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("mean", "variance", "gamma", "dead"),
    [
        # Something flows (the mean is not 0) and nothing varies.
        (vector(1, 1, 1, 1), vector(1, 1, 1, 1e-9), GAMMA, [0, 0, 0, 1]),
        (vector(1, 1, 1, 1), vector(1, 1, 1, 1e-9), None, [0, 0, 0, 1]),
        # The threshold is 1e-6 of the layer's median.
        (vector(1, 1, 1, 1), vector(2, 2, 2, 3e-6), GAMMA, [0, 0, 0, 0]),
        (vector(1, 1, 1, 1), vector(2, 2, 2, 1e-6), GAMMA, [0, 0, 0, 1]),
        # A pruned channel: its gamma is 0.
        (vector(1, 1, 1, 1), vector(1, 1, 1, 0), vector(1, 1, 1, 0), [0, 0, 0, 0]),
        # A channel of plain zeros after a ReLU that never fires.
        (vector(1, 1, 1, 0), vector(1, 1, 1, 0), GAMMA, [0, 0, 0, 0]),
        # But where the others still have their defaults, a 0 was written there.
        (vector(0, 0, 0, 0), vector(1, 1, 1, 0), GAMMA, [0, 0, 0, 1]),
        # Negative is counted elsewhere, NaN is no number to compare with.
        (vector(1, 1, 1, 1), vector(1, 1, 1, -1), GAMMA, [0, 0, 0, 0]),
        (vector(1, 1, np.nan, 1), vector(1, 1, 1, 1e-9), GAMMA, [0, 0, 0, 1]),
        (vector(1, 1, 1, 1), vector(*[np.nan] * 4), GAMMA, [0, 0, 0, 0]),
        (vector(1, 1, 1, 1), vector(0, 0, 0, 0), GAMMA, [0, 0, 0, 0]),
    ],
)
def test_a_dead_channel_has_collapsed_though_something_flows(mean, variance, gamma, dead):
    assert dead_channels(mean, variance, gamma).tolist() == [bool(d) for d in dead]
