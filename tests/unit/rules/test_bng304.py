"""BNG304 on hand-made facts."""

import pytest

from keras_bnguard.rules.bng304_half_precision_statistics import HalfPrecisionStatistics as RULE
from tests.builders.facts import facts, norm, the_violation, violations


@pytest.mark.parametrize(
    ("dtype", "words"), [("float16", "above 65504 is stored as inf"), ("bfloat16", "lost in")]
)
def test_it_reports_what_sixteen_bits_do(dtype, words):
    violation = the_violation(
        RULE, facts(norm("bn", stats_dtype=dtype), norm("other", stats_dtype="float32"))
    )
    assert violation.layers == ("bn",)
    assert words in violation.message
    assert f"mixed_{dtype}" in violation.fix


@pytest.mark.parametrize("dtype", ["float32", "float64", None])
def test_silent_for_whole_precision(dtype):
    assert not violations(RULE, facts(norm("bn", stats_dtype=dtype)))
