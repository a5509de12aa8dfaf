"""BNG304 on hand-made facts."""

import pytest

from keras_bnguard.rules.bng304_half_precision_statistics import HalfPrecisionStatistics as RULE
from tests.builders.facts import facts, hits, norm, the_hit


@pytest.mark.parametrize(
    ("dtype", "says"), [("float16", "above 65504 is stored as inf"), ("bfloat16", "lost in")]
)
def test_it_says_what_sixteen_bits_do(dtype, says):
    hit = the_hit(RULE, facts(norm("bn", stats_dtype=dtype), norm("other", stats_dtype="float32")))
    assert hit.layers == ("bn",)
    assert says in hit.message
    assert f"mixed_{dtype}" in hit.fix


@pytest.mark.parametrize("dtype", ["float32", "float64", None])
def test_silent_for_whole_precision(dtype):
    assert not hits(RULE, facts(norm("bn", stats_dtype=dtype)))
