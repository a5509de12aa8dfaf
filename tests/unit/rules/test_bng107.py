"""BNG107 on hand-made facts."""

from keras_bnguard.records import BlockFlags, SkipKind
from keras_bnguard.rules.bng107_block_cut_in_half import BlockCutInHalf as RULE
from tests.builders.facts import facts, skipped, the_violation, violations


def test_it_counts_on_both_sides_of_the_cut():
    blocks = (
        BlockFlags("conv1", (), ("conv1_a",)),
        BlockFlags("conv2", ("conv2_b", "conv2_c"), ("conv2_a",)),
        BlockFlags("conv3", ("conv3_a",), ()),
    )
    violation = the_violation(RULE, facts(blocks=blocks))
    assert violation.layers == ("conv2_a",)
    assert "1 block of 3 cut in half: conv2 (2 of 3 train)" in violation.message


def test_silent_at_the_edges_of_blocks():
    blocks = (BlockFlags("a", (), ("x",)), BlockFlags("b", ("y",), ()), BlockFlags("c", (), ()))
    assert not violations(RULE, facts(blocks=blocks))
    assert skipped(RULE, facts(blocks=blocks)) is None


def test_it_is_skipped_where_nobody_searched_for_blocks():
    assert skipped(RULE, facts()) is SkipKind.NOT_COLLECTED
