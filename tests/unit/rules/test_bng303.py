"""BNG303 on hand-made facts."""

import pytest

from keras_bnguard.records import Convolution, GraphContext
from keras_bnguard.rules.bng303_wrong_axis import WrongAxis as RULE
from tests.builders.facts import facts, norm, the_violation, violations


def fed(axis, channel_axis=1, dims=4):
    return GraphContext(axis=axis, convolution=Convolution("conv", channel_axis, dims))


@pytest.mark.parametrize("axis", [-1, 3])
def test_the_last_axis_after_channels_first(axis):
    violation = the_violation(RULE, facts(norm("bn", graph_context=fed(axis)), norm("other")))
    assert violation.layers == ("bn",)
    assert (
        "bn normalises along axis 3 (8 values), the channels of conv are axis 1"
        in violation.message
    )
    assert "axis=1" in violation.fix


def test_the_first_axis_after_channels_last():
    violation = the_violation(
        RULE, facts(norm("bn", channels=0, graph_context=fed(1, channel_axis=2, dims=3)))
    )
    assert "axis=2" in violation.fix


def test_silent_on_the_channels_and_without_a_convolution():
    for axis in (1, -3):
        assert not violations(RULE, facts(norm("bn", graph_context=fed(axis))))
    for axis in (3, -1):
        assert not violations(RULE, facts(norm("bn", graph_context=fed(axis, channel_axis=3))))
    assert not violations(RULE, facts(norm("bn", graph_context=GraphContext(axis=1))))
    assert not violations(RULE, facts(norm("bn", graph_context=fed(None))))
