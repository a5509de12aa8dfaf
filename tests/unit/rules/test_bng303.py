"""BNG303 on hand-made facts."""

import pytest

from keras_bnguard.records import Convolution, Surroundings
from keras_bnguard.rules.bng303_wrong_axis import WrongAxis as RULE
from tests.builders.facts import facts, hits, norm, the_hit


def fed(axis, channel_axis=1, dims=4):
    return Surroundings(axis=axis, convolution=Convolution("conv", channel_axis, dims))


@pytest.mark.parametrize("axis", [-1, 3])
def test_the_last_axis_after_channels_first(axis):
    hit = the_hit(RULE, facts(norm("bn", around=fed(axis)), norm("other")))
    assert hit.layers == ("bn",)
    assert "bn normalises along axis 3 (8 values), the channels of conv are axis 1" in hit.message
    assert "axis=1" in hit.fix


def test_the_first_axis_after_channels_last():
    hit = the_hit(RULE, facts(norm("bn", channels=0, around=fed(1, channel_axis=2, dims=3))))
    assert "axis=2" in hit.fix


def test_silent_on_the_channels_and_without_a_convolution():
    for axis in (1, -3):
        assert not hits(RULE, facts(norm("bn", around=fed(axis))))
    for axis in (3, -1):
        assert not hits(RULE, facts(norm("bn", around=fed(axis, channel_axis=3))))
    assert not hits(RULE, facts(norm("bn", around=Surroundings(axis=1))))
    assert not hits(RULE, facts(norm("bn", around=fed(None))))
